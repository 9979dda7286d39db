import auditlogger.AuditException;
import auditlogger.ChatStream;
import auditlogger.Client;
import auditlogger.Pending;
import auditlogger.Reply;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.ToNumberPolicy;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** The runner of the table, as conformance/README.md describes it: Conformance CASES SERVER DIRECTORY. */
final class Conformance {
    private static final Gson GSON = new GsonBuilder()
            .setObjectToNumberStrategy(ToNumberPolicy.BIG_DECIMAL)
            .serializeNulls()
            .disableHtmlEscaping()
            .create();
    private static final List<String> OUTCOMES =
            List.of("AUDIT_OUTCOME_NOT_SENT", "AUDIT_OUTCOME_ANSWERED", "AUDIT_OUTCOME_UNKNOWN");
    private static final Map<String, Pattern> PATTERNS = Map.of(
            "$text", Pattern.compile("(?s).+"),
            "$uuid", Pattern.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
            "$hash", Pattern.compile("[0-9a-f]{64}"),
            "$timestamp", Pattern.compile("\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{6}Z"));

    private static final class Skip extends RuntimeException {
        private static final long serialVersionUID = 1L;

        Skip(String why) {
            super(why);
        }
    }

    private static final class Failure extends RuntimeException {
        private static final long serialVersionUID = 1L;

        Failure(String why) {
            super(why);
        }
    }

    private final Map<String, Object> test;
    private final Path log;
    private final Map<String, String> words = new LinkedHashMap<>();
    private final Map<String, Object> named = new HashMap<>();
    private final List<String> lines = new ArrayList<>();
    private Client client;

    private Conformance(Path cases, String server, Path directory, Map<String, Object> test, int number) {
        this.test = test;
        log = directory.resolve(String.valueOf(number));
        words.put("$SERVER", server);
        words.put("$LOG", log.toString());
        words.put("$CASES", cases.toAbsolutePath().getParent().toString());
        words.put("$CASE", (String) test.get("name"));
    }

    public static void main(String[] arguments) throws IOException {
        Path cases = Path.of(arguments[0]);
        boolean failed = false;
        int number = 0;
        for (Object item : list(GSON.fromJson(Files.readString(cases), Object.class))) {
            Map<String, Object> test = map(item);
            String result = "pass";
            String reason = "";
            try {
                new Conformance(cases, arguments[1], Path.of(arguments[2]), test, number++).run();
            } catch (Skip e) {
                result = "skip";
                reason = e.getMessage();
            } catch (Exception e) {
                result = "fail";
                reason = e.toString();
                failed = true;
            }
            System.out.println(GSON.toJson(Map.of("case", test.get("name"), "result", result, "reason", reason)));
        }
        System.exit(failed ? 1 : 0);
    }

    private void run() throws IOException {
        Map<String, Object> config = new HashMap<>(
                Map.of("output_path", "$LOG", "base_url", "$SERVER", "api_key", "sk-test", "max_retries", 0));
        config.putAll(map(test.getOrDefault("config", Map.of())));
        expect(test.getOrDefault("open", Map.of("status", "AUDIT_OK")), "open", () -> {
            client = new Client(map(expand(config)));
            return Map.of("json", client.opened());
        });
        List<Object> steps = list(test.getOrDefault("steps", List.of()));
        for (int at = 0; at < steps.size(); at++) {
            Map<String, Object> step = map(steps.get(at));
            if (step.get("do").equals("together")) {
                together(step, "step " + at);
            } else {
                expect(step.getOrDefault("expect", Map.of()), "step " + at, () -> perform(step));
            }
        }
        if (client != null) {
            client.close(Duration.ofSeconds(30));
        }
        written();
    }

    private void written() throws IOException {
        List<String> written = new ArrayList<>();
        if (Files.isDirectory(log)) {
            try (Stream<Path> files = Files.list(log)) {
                for (Path file : files.filter(path -> path.getFileName().toString().matches("audit_.*\\.jsonl")).toList()) {
                    written.addAll(List.of(Files.readString(file).split("\n")));
                }
            }
        }
        written.removeIf(String::isEmpty);
        require(written.size() == number(test.get("entries")), written.size() + " entries instead of " + test.get("entries"));
        lines.forEach(line -> require(written.contains(line), "not in the log: " + line));
    }

    /** Performs a step, and returns what came of it: members of "expect". */
    private Map<String, ?> perform(Map<String, Object> step) {
        if (step.containsKey("request_text")) {
            throw new Skip("the package makes the JSON itself");
        }
        Map<String, Object> request = map(expand(step.getOrDefault("request", Map.of())));
        Map<String, Object> record = map(expand(step.getOrDefault("record", Map.of())));
        String name = (String) step.get("as");
        Duration time = Duration.ofMillis(number(step.getOrDefault("timeout_ms", step.getOrDefault("ms", 0))));
        switch ((String) step.get("do")) {
            case "chat":
                return chat(request, (Number) step.get("stop_after"));
            case "start":
                named.put(name, start(request));
                return Map.of();
            case "cancel":
                ((ChatStream) named.get(name)).close();
                return Map.of();
            case "await":
                return finished((ChatStream) named.get(name), null);
            case "sleep":
                sleep(time);
                return Map.of();
            case "log":
                return facts(client.log(record));
            case "begin":
                named.put(name, client.begin(record));
                return Map.of();
            case "finish":
                return facts(((Pending) named.get(name)).finish(record));
            case "flush":
                client.flush(time, step.containsKey("witnessed"));
                return Map.of();
            case "stats":
                return Map.of("json", client.stats());
            case "hash":
                return Map.of("text", client.hash((String) step.get("text")));
            case "close":
                client.close(time);
                return Map.of();
            default:
                throw new Failure("an unknown step: " + step.get("do"));
        }
    }

    private static void sleep(Duration time) {
        try {
            Thread.sleep(time.toMillis());
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    private Map<String, ?> chat(Map<String, Object> request, Number stopAfter) {
        if (streamed(request)) {
            return finished(client.stream(request), stopAfter);
        }
        try {
            return facts(client.chat(request));
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    private static boolean streamed(Map<String, Object> request) {
        return request.get("stream") != null && !request.get("stream").equals(false);
    }

    /** Begins a call: one that isn't streamed has no parts. */
    private ChatStream start(Map<String, Object> request) {
        request.putIfAbsent("stream", false);
        return client.stream(request);
    }

    private static Map<String, ?> finished(ChatStream call, Number stopAfter) {
        List<String> deltas = new ArrayList<>();
        List<String> chunks = new ArrayList<>();
        Reply reply;
        try (call) {
            while ((stopAfter == null || deltas.size() < stopAfter.intValue()) && call.hasNext()) {
                String part = call.next();
                (call.isChunk() ? chunks : deltas).add(part);
            }
            if (stopAfter != null) {
                call.close();
            }
            reply = call.reply();
        } catch (AuditException e) {
            reply = e.reply();
        }
        Map<String, Object> facts = facts(reply);
        facts.put("deltas", deltas);
        facts.put("chunks", chunks);
        return facts;
    }

    private void together(Map<String, Object> step, String place) {
        List<ChatStream> calls = new ArrayList<>();
        for (int number = 0; number < number(step.get("count")); number++) {
            words.put("$N", String.valueOf(number));
            calls.add(start(map(expand(step.get("request")))));
        }
        for (int number = 0; number < calls.size(); number++) {
            words.put("$N", String.valueOf(number));
            ChatStream call = calls.get(number);
            expect(step.get("expect"), place + ", call " + number, () -> finished(call, null));
        }
    }

    private static Map<String, Object> facts(Reply reply) {
        Map<String, Object> fields = new HashMap<>();
        fields.put("finish_reason", reply.finishReason());
        fields.put("model", reply.model());
        fields.put("provider", reply.provider());
        fields.put("generation_id", reply.generationId());
        fields.put("provider_error_type", reply.providerErrorType());
        fields.put("http_status", known(reply.httpStatus()));
        fields.put("outcome", reply.outcome() < 0 ? null : OUTCOMES.get((int) reply.outcome()));
        fields.put("prompt_tokens", known(reply.promptTokens()));
        fields.put("completion_tokens", known(reply.completionTokens()));
        fields.put("retry_after_ms", known(reply.retryAfterMs()));
        fields.put("attempts", known(reply.attempts()));
        Map<String, Object> facts = new HashMap<>();
        facts.put("status", reply.status());
        facts.put("error_type", reply.errorType());
        facts.put("message", reply.errorMessage());
        facts.put("text", reply.content());
        facts.put("json", reply.json());
        facts.put("entry", reply.entry());
        facts.put("line", reply.entry());
        facts.put("reply", fields);
        return facts;
    }

    private static Long known(long number) {
        return number < 0 ? null : number;
    }

    private void expect(Object expected, String place, Supplier<Map<String, ?>> perform) {
        Map<String, Object> facts = new HashMap<>(Map.of("status", "AUDIT_OK", "error_type", ""));
        try {
            facts.putAll(perform.get());
        } catch (AuditException e) {
            facts.putAll(facts(e.reply()));
        }
        if (facts.get("line") != null) {
            lines.add((String) facts.get("line"));
        }
        map(expand(expected)).forEach((key, wanted) -> {
            Object value = facts.get(key.equals("text_json") ? "text" : key);
            switch (key) {
                case "message", "line" -> require(value != null && ((String) value).contains((String) wanted),
                        place + ": " + key + ": " + value + " has no " + wanted);
                case "json", "entry", "text_json" -> match(wanted, read(value), place + ": " + key);
                case "chunks" -> match(wanted, list(value).stream().map(Conformance::read).toList(), place + ": " + key);
                default -> match(wanted, value, place + ": " + key);
            }
        });
    }

    private static Object read(Object json) {
        return json == null ? null : GSON.fromJson((String) json, Object.class);
    }

    private static void match(Object wanted, Object value, String place) {
        if (wanted instanceof Map<?, ?> members && value instanceof Map<?, ?> values) {
            members.forEach((key, item) -> {
                boolean absent = "$absent".equals(item);
                require(values.containsKey(key) != absent, place + ": " + key + (absent ? " is there" : " isn't there"));
                if (!absent) {
                    match(item, values.get(key), place + "." + key);
                }
            });
            return;
        }
        if (wanted instanceof List<?> items && value instanceof List<?> values && items.size() == values.size()) {
            for (int at = 0; at < items.size(); at++) {
                match(items.get(at), values.get(at), place + "[" + at + "]");
            }
            return;
        }
        boolean good;
        if ("$any".equals(wanted)) {
            good = true;
        } else if ("$number".equals(wanted)) {
            good = value instanceof Number number && number.doubleValue() >= 0;
        } else if (wanted instanceof String text && PATTERNS.containsKey(text)) {
            good = value instanceof String found && PATTERNS.get(text).matcher(found).matches();
        } else if (wanted instanceof Number number && value instanceof Number found) {
            good = number.doubleValue() == found.doubleValue();
        } else {
            good = wanted == null ? value == null : wanted.equals(value);
        }
        require(good, place + ": " + cut(value) + " instead of " + cut(wanted));
    }

    private static String cut(Object value) {
        String json = GSON.toJson(value);
        return json.substring(0, Math.min(json.length(), 200));
    }

    private static void require(boolean good, String why) {
        if (!good) {
            throw new Failure(why);
        }
    }

    private Object expand(Object value) {
        if (value instanceof String text) {
            for (Map.Entry<String, String> word : words.entrySet()) {
                text = text.replace(word.getKey(), word.getValue());
            }
            return text;
        }
        if (value instanceof List<?> items) {
            return items.stream().map(this::expand).collect(Collectors.toList());
        }
        if (value instanceof Map<?, ?> members) {
            if (members.get("$text") instanceof List<?> parts) {
                StringBuilder text = new StringBuilder();
                for (int at = 0; at < parts.size(); at += 2) {
                    text.append(((String) parts.get(at)).repeat(number(parts.get(at + 1))));
                }
                return text.toString();
            }
            Map<String, Object> expanded = new LinkedHashMap<>();
            members.forEach((key, item) -> expanded.put((String) expand(key), expand(item)));
            return expanded;
        }
        return value;
    }

    private static int number(Object value) {
        return ((Number) value).intValue();
    }

    @SuppressWarnings("unchecked")
    private static Map<String, Object> map(Object value) {
        return (Map<String, Object>) value;
    }

    @SuppressWarnings("unchecked")
    private static List<Object> list(Object value) {
        return (List<Object>) value;
    }
}
