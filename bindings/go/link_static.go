//go:build !audit_dynamic

package auditlogger

// The module that is published has the static library in it.

// #cgo linux,amd64 LDFLAGS: ${SRCDIR}/lib/linux_amd64/libaudit_logger.a
// #cgo linux,arm64 LDFLAGS: ${SRCDIR}/lib/linux_arm64/libaudit_logger.a
// #cgo LDFLAGS: -lutil -lrt -lpthread -lm -ldl
import "C"
