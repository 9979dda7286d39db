module auditlogger.example/auditlogger

go 1.23
