# frozen_string_literal: true

module AuditLogger
  VERSION = "0.1.0"
end
