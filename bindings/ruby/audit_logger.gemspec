# frozen_string_literal: true

require_relative "lib/audit_logger/version"

Gem::Specification.new do |spec|
  spec.name = "audit_logger"
  spec.version = AuditLogger::VERSION
  spec.summary = "LLM calls that each leave exactly one entry in an append-only audit log"
  spec.authors = ["The audit_logger authors"]
  spec.licenses = ["MIT", "Apache-2.0"]
  spec.required_ruby_version = ">= 3.1"
  # lib/audit_logger holds the library: the gem is for one kind of machine.
  spec.platform = Gem::Platform::CURRENT
  spec.files = Dir["lib/**/*.{rb,so}", "README.md", "LICENSE-*"]
  spec.metadata["rubygems_mfa_required"] = "true"
  # With Ruby until 3.5, a gem of its own from then on.
  spec.add_dependency "fiddle", "~> 1.0"
end
