/* A NUL-terminated string as AuditText, or an absent one for NULL. */
static inline AuditText audit_text(const char *s)
{
    AuditText text;
    text.data = s;
    text.len = 0;
    if (s != NULL) {
        while (s[text.len] != '\0') {
            text.len++;
        }
    }
    return text;
}

#endif /* AUDIT_LOGGER_H */
