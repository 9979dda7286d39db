package auditlogger;

/**
 * The functions of the library by their C names, as {@link Binding} calls them: handles and addresses
 * are {@code long}, texts {@code byte[]}, places for results {@code long[1]}. null is NULL.
 */
@SuppressWarnings("checkstyle:MethodName")
interface CLibrary {
    int audit_logger_new(byte[] config, long[] logger, long[] reply);

    int audit_logger_flush_with(long logger, long timeoutMs, byte[] options, long[] reply);

    int audit_logger_close(long logger, long timeoutMs, long[] reply);

    void audit_logger_free(long logger);

    int audit_logger_stats(long logger, long[] reply);

    int audit_logger_hash(long logger, byte[] text, long length, long[] reply);

    int audit_record_json(long logger, byte[] record, long length, long[] reply);

    int audit_record_begin_json(long logger, byte[] record, long length, long[] pending, long[] reply);

    int audit_record_finish_json(long pending, byte[] record, long length, long[] reply);

    int audit_queue_new(long logger, byte[] options, long[] queue, long[] reply);

    int audit_queue_submit(long queue, byte[] request, long length, long tag, long[] reply);

    int audit_queue_next(long queue, long timeoutMs, long[] reply);

    int audit_queue_cancel(long queue, long tag, long[] reply);

    void audit_queue_free(long queue);

    long audit_reply_text(long reply, int field, long[] length);

    long audit_reply_int(long reply, int field);

    void audit_reply_free(long reply);

    long audit_status_name(int status);
}
