// Makes a text of a NUL-terminated string.
//
// s: the string, which the text points to; or NULL.
//
// Returns the text; for NULL an absent one.
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
