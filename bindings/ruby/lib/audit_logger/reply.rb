# frozen_string_literal: true

module AuditLogger
  # What the library answers. What isn't known is nil.
  #
  # content::             the answer of the model, or the part of it that came before an error
  # json::                the body of the response; of a streamed one the chat.completion it adds up to
  # entry, entry_id::     the entry, as its line stands in the log, and its id
  # error_type::          the class of the error ("RateLimitError"), or the name of the status; "" for a success
  # error_message::       what was wrong, for a person
  # outcome::             0: nothing was sent; 1: the server answered; 2: it may have been processed and billed
  # retry_after_ms::      how long the server asks to wait
  # attempts::            how often the request was tried
  class Reply
    TEXTS = { content: 1, json: 2, entry: 3, entry_id: 4, error_type: 5, error_message: 6, finish_reason: 7,
              model: 8, provider: 9, generation_id: 10, provider_error_type: 11 }.freeze
    NUMBERS = { http_status: 101, outcome: 102, prompt_tokens: 103, completion_tokens: 104,
                retry_after_ms: 105, attempts: 106 }.freeze
    CONTENT = 1
    STATUS = 107
    EVENT = 108
    TAG = 109
    KINDS = { 1 => :delta, 2 => :chunk }.freeze

    attr_reader :status, *TEXTS.keys, *NUMBERS.keys

    # Reads a reply of the library's, and frees it.
    def initialize(status, handle, **told)
      @status = Native.status_name(status).to_s
      TEXTS.each { |name, field| instance_variable_set("@#{name}", Reply.text(handle, field)) }
      NUMBERS.each do |name, field|
        number = Native.reply_int(handle, field)
        instance_variable_set("@#{name}", number.negative? ? nil : number)
      end
      told.each { |name, text| instance_variable_set("@#{name}", text) }
      freeze
    ensure
      Native.reply_free(handle)
    end

    # Of a call whose queue is gone: the client was closed, or the process ends.
    def self.closed(handle)
      new(Native::CANCELLED, handle, error_type: "Cancelled", error_message: "the client was closed meanwhile")
    end

    # What an event is, and its text.
    def self.part(handle)
      [KINDS[Native.reply_int(handle, EVENT)], text(handle, CONTENT)]
    ensure
      Native.reply_free(handle)
    end

    # Calls a function of the library's whose last parameter is a reply, which is returned, or raised.
    def self.of(function, *arguments)
      place = Native::Out.make
      status = Native.public_send(function, *arguments, place)
      new(status, place.value).checked
    end

    def checked
      raise Error, self unless status == "AUDIT_OK"

      self
    end

    def self.text(handle, field)
      length = Native::Out.make
      text = Native.reply_text(handle, field, length)
      text.null? ? nil : text[0, length.value].force_encoding(Encoding::UTF_8)
    end
  end

  # Why a function of the library failed. The call that it was about has its entry: see reply.
  class Error < StandardError
    # What came all the same: a part of the answer, the entry; with AUDIT_E_LOG_PENDING the whole
    # answer, whose entry waits for the log.
    attr_reader :reply

    def initialize(reply)
      @reply = reply
      super("#{reply.error_type}: #{reply.error_message}")
    end

    # The name of the status: "AUDIT_E_CALL", "AUDIT_E_CANCELLED", ...
    def status = reply.status

    # The class of the error, as the entry has it: "RateLimitError", "Cancelled", ...
    def type = reply.error_type
  end
end
