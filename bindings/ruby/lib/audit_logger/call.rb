# frozen_string_literal: true

module AuditLogger
  # A call that runs, from Client#stream or Client#start: for one thread at a time.
  class Call
    include Enumerable

    def initialize(events, both, &cancel) # :nodoc:
      @events = events
      @both = both
      @cancel = cancel
    end

    # Gives each part of a streamed answer as it comes, and returns the Reply. With stream: "all" a part is
    # [:delta, text] or [:chunk, payload]. Whatever leaves the block early, an exception, break or Timeout,
    # cancels the call.
    def each
      return enum_for unless block_given?

      begin
        while (part = take)
          yield @both ? part : part.last
        end
        @reply.checked
      ensure
        cancel
      end
    end

    # Waits for the end, and returns the Reply, or raises what the call failed with.
    def reply
      each { |_| } # rubocop:disable Lint/EmptyBlock
    end

    # Ends the call, and waits until its entry is written.
    def cancel
      return if @reply

      @cancel.call
      nil while take
    end

    private

    # The next part, or nil at the end.
    def take
      return if @reply

      event = @events.pop
      return event unless event.is_a?(Reply)

      @reply = event
      nil
    end
  end
end
