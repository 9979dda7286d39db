//go:build audit_dynamic

package auditlogger

// #cgo pkg-config: audit_logger
import "C"
