/*
 * audit_logger @VERSION@: LLM calls that each leave exactly one entry in an append-only log.
 *
 * Conventions, for every function:
 *
 *  - A function that can fail returns an AuditStatus and takes, last, an AuditReply ** (but for
 *    audit_cancel_new): the reply carries the answer, or the class and the message of the error.
 *    Nothing is kept per thread, errno is left alone, nothing is ever written to stdout or stderr.
 *  - Out-parameters are written on every return, with NULL where there is nothing.
 *  - Texts go in as AuditText (UTF-8 with a length), come out NUL-terminated with a length, and
 *    belong to the reply they are read from. What the library gave is freed by its own functions.
 *  - A handle that is NULL, freed or of another type is answered with AUDIT_E_HANDLE by functions
 *    that return a status; the others do nothing, or read as if there were no such field. Freeing
 *    while another thread is inside a call is safe.
 *  - Every function may be called from any thread at any time. Calls block the calling thread.
 *  - A panic inside the library becomes AUDIT_E_INTERNAL. A failed allocation aborts.
 *
 * For readers of declarations that know no directives (cffi's and PHP's cdef, LuaJIT's) they are
 * what this leaves: cc -E -P -DAUDIT_CDEF audit_logger.h
 *
 * Which function returns which status, beside AUDIT_OK and AUDIT_E_INTERNAL:
 *
 *                        ARGUMENT    CONFIG      LOG_PENDING CANCELLED   TAMPERED    REENTRANT
 *                              HANDLE      LOG         CALL        TIMEOUT     NOT_FOUND   FORKED
 *  audit_logger_new      x           x     x
 *  audit_logger_flush          x           x                       x
 *  audit_logger_flush_with
 *                        x     x           x                       x    (and AUDIT_E_WITNESS)
 *  audit_logger_close          x           x                       x                 x
 *  audit_logger_stats    x     x           x
 *  audit_logger_hash     x     x
 *  audit_chat            x     x           x     x     x     x                             x
 *  audit_logger_log      x     x           x
 *  audit_logger_begin    x     x           x
 *  audit_logger_finish   x     x                 x                                         x
 *  audit_chat_json       x     x           x     x     x     x                             x
 *  audit_record_json     x     x           x
 *  audit_record_begin_json
 *                        x     x           x
 *  audit_record_finish_json
 *                        x     x                 x                                         x
 *  audit_queue_new       x     x
 *  audit_queue_submit    x     x           x                                               x
 *  audit_queue_next      x     x                                   x                       x
 *  audit_queue_cancel          x                                               x           x
 *  audit_logger_verify   x     x           x                 x           x     x
 *  audit_logger_prove    x                 x                             x     x
 *  audit_logger_maintain x     x     x     x                 x
 *  audit_cancel_new      x
 */
#ifndef AUDIT_LOGGER_H
#define AUDIT_LOGGER_H

#ifndef AUDIT_CDEF
#include <stddef.h>
#include <stdint.h>
#endif
