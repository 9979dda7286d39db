package auditlogger;

/** Why a function of the library failed. The call that it was about has its entry, see {@link #reply}. */
public final class AuditException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    private final transient Reply reply;

    AuditException(Reply reply) {
        super(reply.errorType() + ": " + reply.errorMessage());
        this.reply = reply;
    }

    /** The name of the status: "AUDIT_E_CALL", "AUDIT_E_CANCELLED", ... */
    public String status() {
        return reply.status();
    }

    /** The class of the error, as the entry has it: "RateLimitError", "APITimeoutError", "Cancelled", ... */
    public String type() {
        return reply.errorType();
    }

    /**
     * What came all the same: a part of the answer, the entry; with AUDIT_E_LOG_PENDING the whole
     * answer, whose entry waits for the log.
     */
    public Reply reply() {
        return reply;
    }
}
