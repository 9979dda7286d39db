# frozen_string_literal: true

require "json"

module AuditLogger
  # Makes chat calls, each of which leaves exactly one entry in the audit log. One for the whole process,
  # for any number of threads; a forked child may go on with it. Methods raise Error, and a client that is
  # closed answers with AUDIT_E_HANDLE. At exit calls that still run are cancelled.
  #
  #   client = AuditLogger::Client.new(output_path: "audit_logs")
  #   puts client.chat(user_id: "user-42", prompt: "Why is the sky blue?").content
  #   client.chat(user_id: "user-42", prompt: "Count.") { |delta| print delta }
  #   client.close
  class Client
    DONE = 3
    private_constant :DONE

    # What the library said of the log, as JSON: "path", "recovered", "torn", "warnings".
    attr_reader :opened

    # Opens the log, and proves that it can be written to. queue: {running: how many calls run at once
    # (64; to 4,096), event_bytes: ...}; the rest are the keys of docs/configuration.md.
    def initialize(queue: {}, **config)
      @queue_options = Native.terminated(JSON.generate(queue))
      logger = Native::Out.make
      @opened = Reply.of(:logger_new, Native.terminated(JSON.generate(config)), logger).json
      @logger = logger.value
      @lock = Mutex.new
      @tags = 0
      listen
      OPEN[self] = true
    rescue StandardError
      Native.logger_free(@logger) if @logger
      raise
    end

    # With a block, opens a client, and closes it after the block.
    def self.open(**config)
      client = new(**config)
      return client unless block_given?

      begin
        yield client
      ensure
        client.close
      end
    end

    # Makes a call, and waits for its answer: user_id and prompt, and what else schema/request.json has.
    # With a block the answer is streamed, see Call#each. Whatever interrupts it, cancels the call.
    def chat(**request, &)
      block_given? ? stream(**request).each(&) : start(**request).reply
    end

    # Begins a streamed call. Returns a Call, whose each gives the parts; with stream: "chunks" they are
    # the server's payloads, with "all" both.
    def stream(**request)
      start(**request, stream: request[:stream] || true)
    end

    # Begins a call, and doesn't wait. Returns a Call.
    def start(**request)
      text = JSON.generate(request)
      tag, events, queue = @lock.synchronize { submit(text) }
      Call.new(events, request[:stream].to_s == "all") { Native.queue_cancel(queue, tag, nil) }
    end

    # Logs a call that the program made itself: one entry, of a record as schema/record.json has it.
    def log(**record)
      text = JSON.generate(record)
      Reply.of(:record_json, @logger, text, text.bytesize)
    end

    # Begins a call that the program makes itself, which has an entry even if the process is killed.
    # With a block, what it returns is the record to finish with, and an exception finishes it as an error.
    def begin(**record)
      text = JSON.generate(record)
      handle = Native::Out.make
      begun = Reply.of(:record_begin_json, @logger, text, text.bytesize, handle)
      pending = Pending.new(handle.value, begun.entry_id)
      return pending unless block_given?

      begin
        pending.finish(**yield)
      rescue Exception => e # rubocop:disable Lint/RescueException
        pending.finish(status: "error", error_type: e.class.name)
        raise
      end
    end

    # What the log shows for a text: 64 hexadecimal digits.
    def hash_text(text)
      Reply.of(:logger_hash, @logger, text, text.bytesize).content
    end

    # The health of the logger, as JSON.
    def stats
      Reply.of(:logger_stats, @logger).json
    end

    # Has the disk confirm what was written, and seals it. With witnessed it waits until the log's witnesses
    # have signed it too; the error's status is AUDIT_E_WITNESS if they haven't in time.
    def flush(timeout: 5, witnessed: false)
      Reply.of(:logger_flush_with, @logger, (timeout * 1000).to_i, JSON.generate(witnessed: witnessed))
    end

    # Takes no new calls, waits for the running ones, cancels those that are left after timeout seconds,
    # and has the disk confirm and seal the log. Closing twice is fine.
    def close(timeout: 5)
      return unless OPEN.delete(self)

      begin
        Reply.of(:logger_close, @logger, (timeout * 1000).to_i)
      ensure
        # They have ended; what they came to is on its way to who waits for it.
        deadline = now + 5
        sleep 0.001 until @calls.empty? || !@poller.alive? || now > deadline
        Native.queue_free(@queue)
        Native.logger_free(@logger)
      end
    end

    # At exit: ends what runs, and waits for no answer.
    def shutdown # :nodoc:
      Native.queue_free(@queue)
      Native.logger_close(@logger, 0, nil)
      Native.logger_free(@logger)
    end

    private

    def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

    # A queue, and the one thread.
    def listen
      queue = Native::Out.make
      Reply.of(:queue_new, @logger, @queue_options, queue)
      @queue = queue.value
      @calls = {}
      @pid = Process.pid
      @poller = Thread.new(@queue, @calls) { |number, calls| poll(number, calls) }
      @poller.name = "audit_logger"
    end

    def submit(text)
      # A forked child has no threads of its parent's, and the queue is the parent's.
      listen if @pid != Process.pid
      tag = @tags += 1
      # Kept here too: the call may be over before its submission returns.
      events = @calls[tag] = Thread::Queue.new
      Reply.of(:queue_submit, @queue, text, text.bytesize, tag)
      [tag, events, @queue]
    rescue Error
      @calls.delete(tag)
      raise
    end

    # Gives each event to the call that it belongs to.
    def poll(queue, calls)
      place = Native::Out.make
      while Native.queue_next(queue, -1, place) == Native::OK
        event = place.value
        tag = Native.reply_int(event, Reply::TAG)
        case Native.reply_int(event, Reply::EVENT)
        when DONE
          calls.delete(tag) << Reply.new(Native.reply_int(event, Reply::STATUS), event)
        else
          calls[tag] << Reply.part(event)
        end
      end
    ensure
      # The queue is gone, and with it what it still had to tell.
      gone = Reply.closed(place.value)
      calls.each_value { |events| events << gone }
    end

    OPEN = {} # rubocop:disable Style/MutableConstant
    private_constant :OPEN
    at_exit { OPEN.each_key(&:shutdown) }
  end
end
