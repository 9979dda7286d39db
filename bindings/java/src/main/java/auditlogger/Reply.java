package auditlogger;

import static auditlogger.Native.LIBRARY;

/**
 * What the library answers. What isn't known is null; a number is -1.
 *
 * @param status "AUDIT_OK", or the name of an error's status
 * @param content the answer of the model, or the part that came before an error
 * @param json the body of the response; of a streamed one the chat.completion that it adds up to
 * @param entry the entry, as its line stands in the log
 * @param entryId the id of the entry
 * @param errorType the class of the error ("RateLimitError"), or the name of the status; "" for a success
 * @param errorMessage what was wrong, for a person; "" for a success
 * @param finishReason why generation stopped
 * @param model the model that answered
 * @param provider the provider that a router chose
 * @param generationId the provider's name for the answer
 * @param providerErrorType the provider's own class of the error
 * @param httpStatus the status of the last response
 * @param outcome 0: nothing was sent; 1: the server answered; 2: it may have been processed and billed
 * @param promptTokens tokens of the prompt
 * @param completionTokens tokens of the answer
 * @param retryAfterMs milliseconds that the server asks to wait
 * @param attempts how often the request was tried
 */
public record Reply(
        String status, String content, String json, String entry, String entryId, String errorType,
        String errorMessage, String finishReason, String model, String provider, String generationId,
        String providerErrorType, long httpStatus, long outcome, long promptTokens, long completionTokens,
        long retryAfterMs, long attempts) {

    static final int CONTENT = 1;
    static final int STATUS = 107;
    static final int EVENT = 108;
    static final int TAG = 109;

    /** Reads a reply of the library's, and frees it. */
    static Reply take(int status, long reply) {
        try {
            return new Reply(Native.statusName(status), text(reply, CONTENT), text(reply, 2), text(reply, 3),
                    text(reply, 4), text(reply, 5), text(reply, 6), text(reply, 7), text(reply, 8), text(reply, 9), text(reply, 10), text(reply, 11),
                    number(reply, 101), number(reply, 102), number(reply, 103), number(reply, 104),
                    number(reply, 105), number(reply, 106));
        } finally {
            LIBRARY.audit_reply_free(reply);
        }
    }

    static Reply cancelled(String why) {
        return new Reply(Native.statusName(Native.CANCELLED), null, null, null, null, "Cancelled", why, null, null, null, null, null,
                -1, -1, -1, -1, -1, -1);
    }

    /** The same, or what the status says thrown. */
    static Reply taken(int status, long[] reply) {
        return take(status, reply[0]).checked();
    }

    Reply checked() {
        if (!status.equals("AUDIT_OK")) {
            throw new AuditException(this);
        }
        return this;
    }

    static String text(long reply, int field) {
        long[] length = new long[1];
        long address = LIBRARY.audit_reply_text(reply, field, length);
        return Native.text(address, length[0]);
    }

    static long number(long reply, int field) {
        return LIBRARY.audit_reply_int(reply, field);
    }
}
