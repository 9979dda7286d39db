# The header for doxygen. Its comments become doxygen's. Of a function's, a paragraph "name: ..." is
# a parameter, and "Returns ..." the result.

# The comment at the head is the file's; the table in it stays as it stands.
1s|/\*|/** @file|
/^ \* Which function returns which status/,/^ \*\// {
    s|^ \* *ARGUMENT| * @verbatim\n&|
    s|^ \*/| * @endverbatim\n&|
}

s|^/\* \(.*\) \*/$|/** \1 */|
s|^#define AUDIT_LOGGER_VERSION_[A-Z]* .*|/** A part of it. */\n&|
/^\/\/$/ {
    s|$|/|
    n
    s|^// Returns |/// @return |
    s|^// \([a-z_]*\)\(, \([a-z_]*\)\)\{0,1\}: |/// @param \1\2 |
}
s,^\( *\)//\( \|$\),\1///\2,
