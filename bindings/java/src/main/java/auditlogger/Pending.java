package auditlogger;

import static auditlogger.Native.LIBRARY;

import java.util.Map;

/**
 * A call that the program makes by another client, from {@link Client#begin}. Closed without having
 * been finished, its entry says "OutcomeUnknown", as if the process had been killed.
 */
public final class Pending implements AutoCloseable {
    private final long handle;
    private final String entryId;

    Pending(long handle, String entryId) {
        this.handle = handle;
        this.entryId = entryId;
    }

    /** The id that the entry will have. */
    public String entryId() {
        return entryId;
    }

    /**
     * Writes the entry.
     *
     * @param record "status" ("success" or "error"), and what else came of it: see schema/record.json
     * @return the entry
     * @throws AuditException AUDIT_E_ARGUMENT (it can be finished again), AUDIT_E_HANDLE (it was before)
     */
    public Reply finish(Map<String, ?> record) {
        byte[] text = Native.utf8(Json.write(record));
        long[] reply = new long[1];
        return Reply.taken(LIBRARY.audit_record_finish_json(handle, text, text.length, reply), reply);
    }

    @Override
    public void close() {
        try {
            finish(Map.of("status", "error", "error_type", "OutcomeUnknown"));
        } catch (AuditException e) {
            if (!e.status().equals("AUDIT_E_HANDLE")) {
                throw e;
            }
        }
    }
}
