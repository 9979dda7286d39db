# frozen_string_literal: true

require_relative "audit_logger/version"
require_relative "audit_logger/native"
require_relative "audit_logger/reply"
require_relative "audit_logger/call"
require_relative "audit_logger/pending"
require_relative "audit_logger/client"

# LLM calls that each leave exactly one entry in an append-only audit log. See Client.
module AuditLogger
end
