import auditlogger.AuditException;
import auditlogger.ChatStream;
import auditlogger.Client;
import auditlogger.Reply;
import java.nio.file.Path;
import java.util.Map;

/**
 * An audited chat call, a stream, and one that is cancelled: what examples/chat.c does, in Java.
 *
 * <pre>
 * javac -cp audit-logger-0.1.0.jar Chat.java
 * OPENROUTER_API_KEY=... java --enable-native-access=ALL-UNNAMED -cp audit-logger-0.1.0.jar:. Chat "Why is the sky blue?"
 * </pre>
 *
 * Without a key, try it on the server in examples/server; AUDIT_BASE_URL says where it listens.
 */
final class Chat {
    public static void main(String[] arguments) throws InterruptedException {
        String url = System.getenv().getOrDefault("AUDIT_BASE_URL", "https://openrouter.ai/api/v1");
        // 1. Make a client: one for the whole process, shared by all threads. The key comes from the environment.
        try (Client client = new Client(Map.of("output_path", "audit_logs", "base_url", url))) {
            System.out.println("log: " + Path.of("audit_logs").toAbsolutePath());

            // 2. Ask. Nothing is sent unless the log can take the entry.
            Map<String, ?> request = Map.of(
                    "user_id", "user-42",
                    "prompt", arguments.length > 0 ? arguments[0] : "Say hello in one sentence.",
                    "metadata", Map.of("feature", "example", "ticket", 7),
                    "params", Map.of("max_tokens", 200));
            Reply reply = client.chat(request);

            // 3. The answer, and the line that now stands in today's log.
            System.out.println("answer: " + reply.content());
            System.out.println("tokens: " + reply.promptTokens() + " + " + reply.completionTokens());
            System.out.println("entry: " + reply.entry());

            // 4. The same as a stream, its pieces as they come.
            System.out.print("stream: ");
            client.chat(request, System.out::print);
            System.out.println();

            // 5. One that is left at its first piece. It's cancelled, and has its entry all the same.
            try (ChatStream stream = client.stream(request)) {
                System.out.println("cancelled after: " + stream.next());
            }

            // 6. The end of the try waits up to five seconds for calls of other threads, and has the disk
            //    confirm the log.
        } catch (AuditException e) {
            // A failed call has its entry too: e.reply().entry().
            System.err.println(e.getMessage());
            System.exit(1);
        }
    }
}
