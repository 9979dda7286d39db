/* A status that is ignored is a failure that nobody notices. Another word can be defined before. */
#ifndef AUDIT_MUST_USE
#if defined(AUDIT_CDEF)
#define AUDIT_MUST_USE
#elif defined(__cplusplus) && __cplusplus >= 201703L
#define AUDIT_MUST_USE [[nodiscard]]
#elif defined(__GNUC__) || defined(__clang__)
#define AUDIT_MUST_USE __attribute__((warn_unused_result))
#else
#define AUDIT_MUST_USE
#endif
#endif

/* AuditChatRequest request = AUDIT_CHAT_REQUEST_INIT; */
#define AUDIT_CHAT_REQUEST_INIT                                                                    \
    {                                                                                              \
        sizeof(AuditChatRequest), 0, {NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0},        \
            {NULL, 0}, {NULL, 0}, NULL, NULL, NULL, NULL                                           \
    }

/* AuditRecord record = AUDIT_RECORD_INIT; */
#define AUDIT_RECORD_INIT                                                                          \
    {                                                                                              \
        sizeof(AuditRecord), 0, {NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}, 0, 0, 0.0,  \
            {NULL, 0}, {NULL, 0}, {NULL, 0}                                                        \
    }
