package auditlogger;

import static auditlogger.Native.LIBRARY;

import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Consumer;

/**
 * Makes chat calls, each of which leaves exactly one entry in the audit log. One for the whole process,
 * for any number of threads, virtual ones among them: a call parks its thread and holds none of the
 * VM's. Every method that talks to the library throws {@link AuditException}, and a client that is
 * closed answers with AUDIT_E_HANDLE.
 *
 * <p>Requests, records and configurations are maps, as schema/request.json, schema/record.json and
 * schema/config.json have them.
 *
 * <p>When the VM shuts down, calls that still run are cancelled, and their entries say so.
 */
public final class Client implements AutoCloseable {
    /** How long {@link #close} waits for running calls. */
    private static final Duration CLOSING = Duration.ofSeconds(5);

    private final long logger;
    private final long queue;
    private final Reply opened;
    private final AtomicLong tags = new AtomicLong();
    private final Map<Long, Call> calls = new ConcurrentHashMap<>();
    private final Thread hook = new Thread(this::shutdown, "audit_logger shutdown");

    /** What came of an answer: text, or a payload of the server's. */
    record Part(boolean chunk, String text) {}

    /** A call that was submitted: its events, Optional.empty() the last, and how it ended. */
    static final class Call {
        final long tag;
        final BlockingQueue<Optional<Part>> events = new LinkedBlockingQueue<>();
        final CompletableFuture<Reply> done = new CompletableFuture<>();

        Call(long tag) {
            this.tag = tag;
        }

        void end(Reply reply) {
            done.complete(reply);
            events.add(Optional.empty());
        }
    }

    /** A client with the queue's defaults: 64 calls run at once, and the rest waits in order. */
    public Client(Map<String, ?> config) {
        this(config, Map.of());
    }

    /**
     * Opens the log, and proves that it can be written to.
     *
     * @param config see docs/configuration.md
     * @param queueOptions "running": how many calls run at once (64; to 4,096); "event_bytes"
     */
    public Client(Map<String, ?> config, Map<String, ?> queueOptions) {
        long[] made = new long[1];
        long[] reply = new long[1];
        opened = Reply.taken(LIBRARY.audit_logger_new(Native.terminated(Json.write(config)), made, reply), reply);
        logger = made[0];
        try {
            Reply.taken(LIBRARY.audit_queue_new(logger, Native.terminated(Json.write(queueOptions)), made, reply), reply);
        } catch (RuntimeException e) {
            LIBRARY.audit_logger_free(logger);
            throw e;
        }
        queue = made[0];
        Thread poller = new Thread(this::poll, "audit_logger");
        poller.setDaemon(true);
        poller.start();
        Runtime.getRuntime().addShutdownHook(hook);
    }

    /** What the library said of the log, a JSON object: "path", "recovered", "torn", "warnings". */
    public String opened() {
        return opened.json();
    }

    /**
     * Makes a call, and waits for its answer.
     *
     * @param request "user_id" and "prompt", and what else schema/request.json has
     * @throws InterruptedException if this thread is interrupted; the call is cancelled
     */
    public Reply chat(Map<String, ?> request) throws InterruptedException {
        Call call = submit(request);
        try {
            return call.done.get().checked();
        } catch (ExecutionException e) {
            throw new IllegalStateException(e);
        } finally {
            cancel(call);
        }
    }

    /**
     * Makes a streamed call, and gives each part of the answer to the calling thread as it comes. What
     * onDelta throws cancels the call and comes out of here.
     */
    public Reply chat(Map<String, ?> request, Consumer<String> onDelta) {
        try (ChatStream stream = stream(request)) {
            stream.forEachRemaining(onDelta);
            return stream.reply();
        }
    }

    /**
     * Makes a call. Its future fails with an AuditException; cancelled, or over for another reason, it
     * ends the call.
     */
    public CompletableFuture<Reply> chatAsync(Map<String, ?> request) {
        Call call = submit(request);
        // On the pool, so that what hangs on it never holds up the poller.
        CompletableFuture<Reply> result = call.done.thenApplyAsync(Reply::checked);
        result.whenComplete((reply, failed) -> cancel(call));
        return result;
    }

    /**
     * Makes a streamed call.
     *
     * @param request as for {@link #chat}; with "stream" set to "chunks" the parts are the server's
     *     payloads, with "all" both
     * @return the parts, to be closed
     */
    public ChatStream stream(Map<String, ?> request) {
        Map<String, Object> streamed = new HashMap<>(request);
        streamed.putIfAbsent("stream", true);
        return new ChatStream(this, submit(streamed));
    }

    /** Logs a call that the program made itself: one entry. */
    public Reply log(Map<String, ?> record) {
        byte[] text = Native.utf8(Json.write(record));
        long[] reply = new long[1];
        return Reply.taken(LIBRARY.audit_record_json(logger, text, text.length, reply), reply);
    }

    /** Begins a call that the program makes itself, which has an entry even if the process is killed. */
    public Pending begin(Map<String, ?> record) {
        byte[] text = Native.utf8(Json.write(record));
        long[] pending = new long[1];
        long[] reply = new long[1];
        Reply begun =
                Reply.taken(LIBRARY.audit_record_begin_json(logger, text, text.length, pending, reply), reply);
        return new Pending(pending[0], begun.entryId());
    }

    /** What the log shows for a text: 64 hexadecimal digits. */
    public String hash(String text) {
        byte[] bytes = Native.utf8(text);
        long[] reply = new long[1];
        return Reply.taken(LIBRARY.audit_logger_hash(logger, bytes, bytes.length, reply), reply).content();
    }

    /** The health of the logger, a JSON object. */
    public String stats() {
        long[] reply = new long[1];
        return Reply.taken(LIBRARY.audit_logger_stats(logger, reply), reply).json();
    }

    /** Has the disk confirm what was written, and seals it. */
    public void flush(Duration timeout) {
        flush(timeout, false);
    }

    /**
     * The same; if {@code witnessed}, it waits until the log's witnesses have signed it too.
     *
     * @throws AuditException of the status AUDIT_E_WITNESS if they haven't in time
     */
    public void flush(Duration timeout, boolean witnessed) {
        byte[] options = Native.terminated(Json.write(Map.of("witnessed", witnessed)));
        long[] reply = new long[1];
        Reply.taken(LIBRARY.audit_logger_flush_with(logger, timeout.toMillis(), options, reply), reply);
    }

    @Override
    public void close() {
        close(CLOSING);
    }

    /**
     * Takes no new calls, waits for the running ones, cancels those that are left when the time is up,
     * and has the disk confirm and seal the log. Closing twice is fine.
     */
    public void close(Duration timeout) {
        long[] reply = new long[1];
        int status = LIBRARY.audit_logger_close(logger, timeout.toMillis(), reply);
        Reply closed = Reply.take(status, reply[0]);
        if (status == Native.HANDLE) {
            return;
        }
        try {
            // They have ended; what they came to is on its way to who waits for it.
            CompletableFuture.allOf(calls.values().stream().map(call -> call.done).toArray(CompletableFuture[]::new))
                    .get(5, TimeUnit.SECONDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        } catch (ExecutionException | TimeoutException e) {
            // A call that hangs on the disk: freed, the queue gives it up.
        }
        LIBRARY.audit_queue_free(queue);
        LIBRARY.audit_logger_free(logger);
        try {
            Runtime.getRuntime().removeShutdownHook(hook);
        } catch (IllegalStateException e) {
            // The VM is shutting down.
        }
        closed.checked();
    }

    void cancel(Call call) {
        if (!call.done.isDone()) {
            // Not found where it has just ended.
            LIBRARY.audit_queue_cancel(queue, call.tag, null);
        }
    }

    private Call submit(Map<String, ?> request) {
        byte[] text = Native.utf8(Json.write(request));
        Call call = new Call(tags.incrementAndGet());
        calls.put(call.tag, call);
        long[] reply = new long[1];
        int status = LIBRARY.audit_queue_submit(queue, text, text.length, call.tag, reply);
        if (status != Native.OK) {
            calls.remove(call.tag);
        }
        Reply.taken(status, reply);
        return call;
    }

    /** The one thread: gives each event to the call that it belongs to. */
    private void poll() {
        long[] place = new long[1];
        int status;
        while ((status = LIBRARY.audit_queue_next(queue, -1, place)) == Native.OK) {
            long event = place[0];
            long tag = Reply.number(event, Reply.TAG);
            long kind = Reply.number(event, Reply.EVENT);
            if (kind == Native.EVENT_DONE) {
                calls.remove(tag).end(Reply.take((int) Reply.number(event, Reply.STATUS), event));
            } else {
                Part part = new Part(kind == Native.EVENT_CHUNK, Reply.text(event, Reply.CONTENT));
                calls.get(tag).events.add(Optional.of(part));
                LIBRARY.audit_reply_free(event);
            }
        }
        // The queue is gone, and with it what it still had to tell.
        Reply why = Reply.take(status, place[0]);
        Reply gone = status == Native.HANDLE ? Reply.cancelled("the client was closed, or the VM is shutting down") : why;
        calls.values().forEach(call -> call.end(gone));
    }

    private void shutdown() {
        LIBRARY.audit_queue_free(queue);
        LIBRARY.audit_logger_close(logger, 0, null);
        LIBRARY.audit_logger_free(logger);
    }
}
