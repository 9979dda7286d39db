# frozen_string_literal: true

module AuditLogger
  # A call that the program makes by another client, from Client#begin.
  class Pending
    # The id that the entry will have.
    attr_reader :entry_id

    def initialize(handle, entry_id)
      @handle = handle
      @entry_id = entry_id
    end

    # Writes the entry: status ("success" or "error"), and what else came of it, as schema/record.json
    # has it. Returns the Reply with the entry.
    def finish(**record)
      text = JSON.generate(record)
      Reply.of(:record_finish_json, @handle, text, text.bytesize)
    end
  end
end
