package auditlogger;

import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.Spliterator;
import java.util.Spliterators;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/**
 * The parts of a streamed answer as they come, from {@link Client#stream}. For one thread at a time.
 * Where the call fails, so does {@link #hasNext}, after what came before. Closed before its end, the
 * call is cancelled, and its entry says so.
 */
public final class ChatStream implements Iterator<String>, Iterable<String>, AutoCloseable {
    private final Client client;
    private final Client.Call call;
    private Client.Part next;
    private boolean chunk;
    private boolean ended;

    ChatStream(Client client, Client.Call call) {
        this.client = client;
        this.call = call;
    }

    /** Waits for a part. An interrupt cancels the call and is kept; a virtual thread parks. */
    @Override
    public boolean hasNext() {
        if (next == null && !ended) {
            try {
                next = call.events.take().orElse(null);
            } catch (InterruptedException e) {
                close();
                Thread.currentThread().interrupt();
            }
            if (next == null) {
                ended = true;
                reply();
            }
        }
        return next != null;
    }

    @Override
    public String next() {
        if (!hasNext()) {
            throw new NoSuchElementException("the answer is over");
        }
        String text = next.text();
        chunk = next.chunk();
        next = null;
        return text;
    }

    /** Whether the part that came last is a payload of the server's, as with "stream" "chunks" or "all". */
    public boolean isChunk() {
        return chunk;
    }

    @Override
    public Iterator<String> iterator() {
        return this;
    }

    /** The parts as a stream, which cancels the call when it's closed. */
    public Stream<String> parts() {
        int traits = Spliterator.ORDERED | Spliterator.NONNULL;
        return StreamSupport.stream(Spliterators.spliteratorUnknownSize(this, traits), false).onClose(this::close);
    }

    /**
     * Waits for the end of the call.
     *
     * @return all of the answer, and the entry
     * @throws AuditException what the call failed with
     */
    public Reply reply() {
        return call.done.join().checked();
    }

    @Override
    public void close() {
        ended = true;
        if (!call.done.isDone()) {
            client.cancel(call);
            call.done.join();
        }
    }
}
