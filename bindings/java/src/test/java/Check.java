import auditlogger.AuditException;
import auditlogger.ChatStream;
import auditlogger.Client;
import auditlogger.Pending;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Stream;

/** What the table of conformance can't say of the package: Check SERVER DIRECTORY. */
final class Check {
    private static final Map<String, ?> HANGS = Map.of("user_id", "user-1", "prompt", "hello", "model", "test/hang");
    private static final Map<String, ?> ENDLESS =
            Map.of("user_id", "user-1", "prompt", "hello", "model", "test/endless");
    private static final Map<String, ?> HELLO = Map.of("user_id", "user-1", "prompt", "hello");

    private interface Promise {
        void holds(Client client, Path log) throws Exception;
    }

    private static String server;
    private static Path directory;
    private static int promises;

    public static void main(String[] arguments) throws Exception {
        server = arguments[0];
        directory = Path.of(arguments[1]);
        if (arguments.length > 2) {
            streamAndEnd(arguments[2]);
            return;
        }
        promise("what a consumer throws cancels the call and comes out", (client, log) -> {
            RuntimeException thrown = new IllegalStateException("enough");
            same(thrown, caught(() -> client.chat(ENDLESS, part -> {
                throw thrown;
            })));
            same("Cancelled", errorTypes(log));
        });
        promise("a stream that is closed early is cancelled", (client, log) -> {
            try (ChatStream stream = client.stream(ENDLESS)) {
                same(2L, stream.parts().limit(2).count());
            }
            same("Cancelled", errorTypes(log));
        });
        promise("a future that is cancelled ends the call", (client, log) -> {
            CompletableFuture<?> future = client.chatAsync(HANGS);
            future.cancel(true);
            client.close();
            same("Cancelled", errorTypes(log));
        });
        promise("a future fails with the error and its entry", (client, log) -> {
            Map<String, ?> refused = Map.of("user_id", "user-1", "prompt", "hello", "model", "test/429");
            CompletionException failed = (CompletionException) caught(() -> client.chatAsync(refused).join());
            AuditException error = (AuditException) failed.getCause();
            same("RateLimitError", error.type());
            same(true, Files.readString(day(log)).contains(error.reply().entry()));
        });
        promise("what hangs on a future holds up no other call", (client, log) -> {
            CompletableFuture<String> later = client.chatAsync(HELLO)
                    .thenApply(reply -> client.chatAsync(HELLO).join().content());
            same("You said: hello", later.get(30, TimeUnit.SECONDS));
        });
        promise("an interrupt ends the call", (client, log) -> {
            AtomicReference<Throwable> came = new AtomicReference<>();
            Thread thread = new Thread(() -> came.set(caught(() -> client.chat(HANGS))));
            thread.start();
            thread.interrupt();
            thread.join();
            same(InterruptedException.class, came.get().getClass());
            client.close();
            same("Cancelled", errorTypes(log));
        });
        promise("a call of one's own that isn't finished has an entry", (client, log) -> {
            try (Pending pending = client.begin(Map.of("user_id", "user-1", "model", "m", "prompt", "p"))) {
                same(true, pending.entryId() != null);
            }
            try (Pending pending = client.begin(Map.of("user_id", "user-1", "model", "m", "prompt", "p"))) {
                pending.finish(Map.of("status", "success", "response", "r"));
            }
            same("OutcomeUnknown,null", errorTypes(log));
        });
        promise("half of a character is refused", (client, log) ->
                same(IllegalArgumentException.class,
                        caught(() -> client.chat(Map.of("user_id", "u", "prompt", "\ud83d"))).getClass()));
        promise("a number that JSON hasn't is refused", (client, log) ->
                same(IllegalArgumentException.class,
                        caught(() -> client.chat(Map.of("user_id", "u", "prompt", Double.NaN))).getClass()));
        if (Runtime.version().feature() >= 21) {
            promise("a virtual thread parks in a call, and leaves its carrier to others", Check::parked);
        }
        for (String way : List.of("exit", "return")) {
            promise("a stream that runs at the VM's end by " + way + " is cancelled", (client, log) -> {
                Process child = child(way);
                same("", new String(child.getErrorStream().readAllBytes()));
                same(way.equals("exit") ? 3 : 0, child.waitFor());
                same("Cancelled", errorTypes(directory.resolve(way)));
            });
        }
        promise("a stream that runs at SIGTERM is cancelled", (client, log) -> {
            Process child = child("term");
            same('s', (char) child.getInputStream().read());
            child.destroy();
            same(143, child.waitFor());
            same("Cancelled", errorTypes(directory.resolve("term")));
        });
        System.out.println(promises + " passed, 0 failed");
        System.exit(0);
    }

    /** With one carrier alone, as this is run: a thread that held it would keep the other from beginning. */
    private static void parked(Client client, Path log) throws Exception {
        same("1", System.getProperty("jdk.virtualThreadScheduler.maxPoolSize"));
        AtomicReference<Thread> first = new AtomicReference<>();
        CountDownLatch both = new CountDownLatch(2);
        AtomicReference<Throwable> came = new AtomicReference<>();
        var start = Thread.class.getMethod("startVirtualThread", Runnable.class);
        first.set((Thread) start.invoke(null, (Runnable) () -> {
            came.set(caught(() -> client.chat(HANGS)));
            both.countDown();
        }));
        start.invoke(null, (Runnable) () -> {
            client.chatAsync(HELLO).join();
            first.get().interrupt();
            both.countDown();
        });
        both.await();
        same(InterruptedException.class, came.get().getClass());
        client.close();
        same("Cancelled,null", errorTypes(log));
    }

    /** This program in a VM of its own, which ends while it streams. */
    private static Process child(String way) throws IOException {
        List<String> command = new ArrayList<>(List.of(ProcessHandle.current().info().command().orElseThrow()));
        command.addAll(ManagementFactory.getRuntimeMXBean().getInputArguments());
        command.addAll(List.of("-cp", System.getProperty("java.class.path"), "Check", server,
                directory.resolve(way).toString(), way));
        return new ProcessBuilder(command).start();
    }

    private static void streamAndEnd(String way) throws Exception {
        Client client = new Client(config(directory));
        CountDownLatch streaming = new CountDownLatch(1);
        Thread thread = new Thread(() -> caught(() -> client.chat(ENDLESS, part -> streaming.countDown())));
        thread.setDaemon(true);
        thread.start();
        streaming.await();
        System.out.print("s");
        System.out.flush();
        if (way.equals("exit")) {
            System.exit(3);
        } else if (way.equals("term")) {
            thread.join();
        }
    }

    private static Map<String, ?> config(Path log) {
        return Map.of("output_path", log.toString(), "base_url", server, "api_key", "sk-test", "max_retries", 0);
    }

    private static void promise(String what, Promise promise) throws Exception {
        Path log = directory.resolve(String.valueOf(promises++));
        try (Client client = new Client(config(log))) {
            promise.holds(client, log);
        } catch (Throwable e) {
            throw new AssertionError(what, e);
        }
    }

    private interface Action {
        void run() throws Exception;
    }

    private static Throwable caught(Action action) {
        try {
            action.run();
        } catch (Throwable e) {
            return e;
        }
        throw new AssertionError("nothing was thrown");
    }

    private static void same(Object expected, Object actual) {
        if (!expected.equals(actual)) {
            throw new AssertionError(actual + " instead of " + expected);
        }
    }

    private static Path day(Path log) throws IOException {
        try (Stream<Path> files = Files.list(log)) {
            return files.filter(file -> file.toString().endsWith(".jsonl")).findFirst().orElseThrow();
        }
    }

    /** What the entries have as error_type, sorted. */
    private static String errorTypes(Path log) throws IOException {
        return Files.readAllLines(day(log)).stream()
                .map(line -> line.replaceAll(".*\"error_type\":\"?(\\w+).*", "$1"))
                .sorted()
                .reduce((all, one) -> all + "," + one)
                .orElseThrow();
    }
}
