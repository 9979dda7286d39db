// A callback that panics, which an outer function recovers. Arguments: the log's directory, the base URL
// of a server that streams a little and then is silent.
package main

/*
#cgo LDFLAGS: -laudit_logger
#include <stdlib.h>
#include "audit_logger.h"

extern int32_t onDelta(char *, size_t, void *);

static AuditStatus ask(AuditLogger *logger)
{
    AuditReply *reply;
    AuditChatRequest request = AUDIT_CHAT_REQUEST_INIT;
    request.user_id = audit_text("user-1");
    request.prompt = audit_text("hello");
    request.on_delta = (AuditCallback)onDelta;
    return audit_chat(logger, &request, &reply);
}
*/
import "C"

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"unsafe"
)

//export onDelta
func onDelta(text *C.char, length C.size_t, context unsafe.Pointer) C.int32_t {
	panic("left")
}

func ask(logger *C.AuditLogger) (left any) {
	defer func() { left = recover() }()
	C.ask(logger)
	return nil
}

func main() {
	config := fmt.Sprintf(`{"output_path": %q, "base_url": %q, "api_key": "sk-test", "max_retries": 0}`,
		os.Args[1], os.Args[2])
	var logger *C.AuditLogger
	if status := C.audit_logger_new(C.CString(config), &logger, nil); status != 0 {
		panic(status)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Add(1)
		go func() {
			defer all.Done()
			for range 4 {
				if ask(logger) != "left" {
					panic("it returned")
				}
			}
		}()
	}
	all.Wait()
	// What a parked thread left is ended when the time is up, if it isn't noticed before.
	var reply *C.AuditReply
	status := C.audit_logger_close(logger, 300, &reply)
	message := C.GoString(C.audit_reply_text(reply, C.AUDIT_REPLY_ERROR_MESSAGE, nil))
	if status != 0 && !(status == C.AUDIT_E_TIMEOUT && strings.Contains(message, "their entries are written")) {
		panic(message)
	}
	C.audit_logger_free(logger)
}
