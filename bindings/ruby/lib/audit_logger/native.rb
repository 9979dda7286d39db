# frozen_string_literal: true

require "fiddle"

module AuditLogger
  # The library's functions by their names without "audit_". A text goes in as a String, a handle as an
  # Integer; a place for a result is an Out. Fiddle lets go of the lock of the VM during each call.
  module Native
    P = Fiddle::TYPE_VOIDP
    I32 = Fiddle::TYPE_INT
    I64 = Fiddle::TYPE_LONG_LONG
    LEN = Fiddle::TYPE_SIZE_T

    OK = 0
    HANDLE = -2
    CANCELLED = -7

    FUNCTIONS = {
      logger_new: [[P, P, P], I32],
      logger_flush_with: [[P, I64, P, P], I32],
      logger_close: [[P, I64, P], I32],
      logger_free: [[P], Fiddle::TYPE_VOID],
      logger_stats: [[P, P], I32],
      logger_hash: [[P, P, LEN, P], I32],
      record_json: [[P, P, LEN, P], I32],
      record_begin_json: [[P, P, LEN, P, P], I32],
      record_finish_json: [[P, P, LEN, P], I32],
      queue_new: [[P, P, P, P], I32],
      queue_submit: [[P, P, LEN, I64, P], I32],
      queue_next: [[P, I64, P], I32],
      queue_cancel: [[P, I64, P], I32],
      queue_free: [[P], Fiddle::TYPE_VOID],
      reply_text: [[P, I32, P], P],
      reply_int: [[P, I32], I64],
      reply_free: [[P], Fiddle::TYPE_VOID],
      status_name: [[I32], P]
    }.freeze

    packed = File.join(__dir__, "libaudit_logger.so")
    LIBRARY = Fiddle.dlopen(
      ENV["AUDIT_LOGGER_LIBRARY"] || (File.exist?(packed) ? packed : "libaudit_logger.so.0.1")
    )

    FUNCTIONS.each do |name, (parameters, result)|
      function = Fiddle::Function.new(LIBRARY["audit_#{name}"], parameters, result)
      define_singleton_method(name) { |*arguments| function.call(*arguments) }
    end

    # Where the library puts a handle or a length.
    class Out < Fiddle::Pointer
      def self.make
        malloc(Fiddle::SIZEOF_VOIDP, Fiddle::RUBY_FREE)
      end

      def value
        self[0, Fiddle::SIZEOF_VOIDP].unpack1("J")
      end
    end

    # For what takes no length. JSON holds no NUL.
    def self.terminated(text)
      "#{text}\0"
    end
  end
end
