import auditlogger.Client;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/**
 * How long 1,000 calls of 5 seconds take that as many virtual threads wait for, beside a server in the same
 * VM: Bench [CALLS [SECONDS]], on Java 21 or later. To measure, not a test: with one carrier
 * (-Djdk.virtualThreadScheduler.maxPoolSize=1) it shows that none is pinned.
 */
final class Bench {
    private static final byte[] ANSWER = """
            {"id": "gen-1", "object": "chat.completion", "model": "m", "choices": [{"index": 0,
             "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}]}
            """.getBytes(StandardCharsets.UTF_8);

    public static void main(String[] arguments) throws Exception {
        int count = arguments.length > 0 ? Integer.parseInt(arguments[0]) : 1000;
        long seconds = arguments.length > 1 ? Long.parseLong(arguments[1]) : 5;
        HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), count);
        server.setExecutor(virtual());
        server.createContext("/", exchange -> {
            exchange.getRequestBody().readAllBytes();
            sleep(seconds);
            exchange.sendResponseHeaders(200, ANSWER.length);
            exchange.getResponseBody().write(ANSWER);
            exchange.close();
        });
        server.start();
        Path log = Files.createTempDirectory("bench");
        Map<String, ?> config = Map.of("output_path", log.toString(), "api_key", "none",
                "base_url", "http://127.0.0.1:" + server.getAddress().getPort());
        try (Client client = new Client(config, Map.of("running", Math.min(count, 4096)))) {
            client.chat(Map.of("user_id", "warm", "prompt", "up"));
            long begun = System.nanoTime();
            List<Future<String>> answers = new ArrayList<>();
            ExecutorService threads = virtual();
            for (int i = 0; i < count; i++) {
                Map<String, ?> request = Map.of("user_id", "user-" + i, "prompt", "hello");
                answers.add(threads.submit(() -> client.chat(request).content()));
            }
            for (Future<String> answer : answers) {
                if (!answer.get().equals("hello")) {
                    throw new IllegalStateException(answer.get());
                }
            }
            System.out.printf("%d calls of %d s by as many virtual threads: %.2f s%n", count, seconds,
                    (System.nanoTime() - begun) / 1e9);
        }
        System.exit(0);
    }

    private static ExecutorService virtual() throws ReflectiveOperationException {
        return (ExecutorService) Executors.class.getMethod("newVirtualThreadPerTaskExecutor").invoke(null);
    }

    private static void sleep(long seconds) throws IOException {
        try {
            Thread.sleep(seconds * 1000);
        } catch (InterruptedException e) {
            throw new IOException(e);
        }
    }
}
