# frozen_string_literal: true

# The runner of the table, as conformance/README.md describes it: conformance.rb CASES SERVER DIRECTORY

require "audit_logger"

class Conformance
  class Skip < StandardError; end

  OUTCOMES = %w[AUDIT_OUTCOME_NOT_SENT AUDIT_OUTCOME_ANSWERED AUDIT_OUTCOME_UNKNOWN].freeze
  PATTERNS = {
    "$text" => ->(value) { value.is_a?(String) && !value.empty? },
    "$number" => ->(value) { value.is_a?(Numeric) && value >= 0 },
    "$uuid" => ->(value) { value =~ /\A\h{8}-\h{4}-\h{4}-\h{4}-\h{12}\z/ && value == value.downcase },
    "$hash" => ->(value) { value =~ /\A[0-9a-f]{64}\z/ },
    "$timestamp" => ->(value) { value =~ /\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\z/ }
  }.freeze
  # What a step came to.
  Came = Struct.new(:reply, :deltas, :chunks)

  def initialize(cases, server, directory, test, number)
    @case = test
    @log = File.join(directory, number.to_s)
    @words = { "$SERVER" => server, "$LOG" => @log, "$CASES" => File.dirname(File.expand_path(cases)),
               "$CASE" => test["name"] }
    @named = {}
    @lines = []
  end

  def self.run(cases, server, directory)
    failed = false
    JSON.parse(File.read(cases, encoding: "UTF-8")).each_with_index do |test, number|
      result, reason = new(cases, server, directory, test, number).result
      failed ||= result == "fail"
      puts JSON.generate(case: test["name"], result:, reason:)
      $stdout.flush
    end
    exit !failed
  end

  def result
    open
    Array(@case["steps"]).each_with_index { |step, at| expect(step, "step #{at}") { perform(step) } }
    @client&.close(timeout: 30)
    written
    ["pass", ""]
  rescue Skip => e
    ["skip", e.message]
  rescue StandardError => e
    ["fail", "#{e.class}: #{e.message}"]
  end

  private

  def open
    config = { "output_path" => "$LOG", "base_url" => "$SERVER", "api_key" => "sk-test", "max_retries" => 0 }
    config = expand(config.merge(@case["config"] || {}))
    expect({ "expect" => @case["open"] || { "status" => "AUDIT_OK" } }, "open") do
      @client = AuditLogger::Client.new(**config.transform_keys(&:to_sym))
      { json: @client.opened }
    end
  end

  def written
    lines = Dir["#{@log}/audit_*.jsonl"].flat_map { |file| File.readlines(file, chomp: true, encoding: "UTF-8") }
    raise "#{lines.size} entries instead of #{@case["entries"]}" if lines.size != @case["entries"]

    missing = @lines - lines
    raise "not in the log: #{missing}" unless missing.empty?
  end

  # Performs a step, and returns what came of it.
  def perform(step)
    raise Skip, "the package makes the JSON itself" if step["request_text"]

    request = keys(step["request"])
    record = keys(step["record"])
    case step["do"]
    when "chat" then chat(request, step["stop_after"])
    when "start" then @named[step["as"]] = start(request)
    when "cancel" then @named[step["as"]].cancel
    when "await" then finished(@named[step["as"]])
    when "together" then together(step)
    when "sleep" then sleep(step["ms"] / 1000.0)
    when "log" then @client.log(**record)
    when "begin" then @named[step["as"]] = @client.begin(**record)
    when "finish" then @named[step["as"]].finish(**record)
    when "flush" then @client.flush(timeout: step["timeout_ms"] / 1000.0, witnessed: step.fetch("witnessed", false))
    when "stats" then { json: @client.stats }
    when "hash" then { text: @client.hash_text(expand(step["text"])) }
    when "close" then @client.close(timeout: step["timeout_ms"] / 1000.0)
    else raise "an unknown step: #{step["do"]}"
    end
  end

  def start(request)
    @stream = request[:stream]
    @stream ? @client.stream(**request) : @client.start(**request)
  end

  def chat(request, stop_after)
    call = start(request)
    return finished(call) unless stop_after

    call.first(stop_after)
    call.reply
  end

  def together(step)
    calls = Array.new(step["count"]) do |number|
      @words["$N"] = number.to_s
      start(keys(step["request"]))
    end
    calls.each_with_index do |call, number|
      @words["$N"] = number.to_s
      expect(step, "call #{number}") { finished(call) }
    end
    nil
  end

  def finished(call)
    parts = []
    call.each { |part| parts << part }
    came(call.reply, parts)
  rescue AuditLogger::Error => e
    came(e.reply, parts)
  end

  def came(reply, parts)
    parts = parts.map { |part| [@stream == "chunks" ? :chunk : :delta, part] } unless @stream == "all"
    Came.new(reply, *%i[delta chunk].map { |kind| parts.filter_map { |what, text| text if what == kind } })
  end

  # Compares what the block comes to.
  def expect(step, place)
    came = begin
      yield
    rescue AuditLogger::Error => e
      e.reply
    end
    return if step["do"] == "together"

    facts = facts(came)
    @lines << facts["line"] if facts["line"]
    expand(step["expect"] || {}).each { |key, wanted| compare(facts, key, wanted, place) }
  end

  def compare(facts, key, wanted, place)
    case key
    when "message", "line"
      facts[key].to_s.include?(wanted) || raise("#{place}: #{key} #{facts[key].inspect} has no #{wanted.inspect}")
    when "json", "entry", "text_json"
      value = facts[key == "text_json" ? "text" : key]
      match(wanted, value && JSON.parse(value), "#{place}: #{key}")
    when "chunks" then match(wanted, facts[key].map { |chunk| JSON.parse(chunk) }, "#{place}: #{key}")
    else
      match(wanted, facts[key], "#{place}: #{key}")
    end
  end

  def facts(came)
    told = came.is_a?(Hash) ? came.transform_keys(&:to_s) : {}
    told.update("deltas" => came.deltas, "chunks" => came.chunks) if came.is_a?(Came)
    reply = came.is_a?(Came) ? came.reply : came
    return { "status" => "AUDIT_OK", "error_type" => "" }.merge(told) unless reply.is_a?(AuditLogger::Reply)

    fields = (AuditLogger::Reply::NUMBERS.keys + AuditLogger::Reply::TEXTS.keys).to_h do |name|
      [name.to_s, reply.public_send(name)]
    end
    fields["outcome"] &&= OUTCOMES[fields["outcome"]]
    told.merge("status" => reply.status, "error_type" => reply.error_type, "message" => reply.error_message,
               "text" => reply.content, "json" => reply.json, "entry" => reply.entry, "line" => reply.entry,
               "reply" => fields)
  end

  def match(wanted, value, place)
    good = case wanted
           when "$any" then true
           when *PATTERNS.keys then PATTERNS[wanted].call(value)
           when Hash
             value.is_a?(Hash) && wanted.each do |key, item|
               if item == "$absent"
                 raise "#{place}.#{key} is there" if value.key?(key)
               else
                 raise "#{place}.#{key} isn't there" unless value.key?(key)

                 match(item, value[key], "#{place}.#{key}")
               end
             end
           when Array
             value.is_a?(Array) && value.size == wanted.size &&
               wanted.each_with_index { |item, at| match(item, value[at], "#{place}[#{at}]") }
           else wanted == value
           end
    good || raise("#{place}: #{value.inspect[0, 200]} instead of #{wanted.inspect[0, 200]}")
  end

  def expand(value)
    case value
    when String then @words.reduce(value) { |text, (name, word)| text.gsub(name) { word } }
    when Array then value.map { |item| expand(item) }
    when Hash
      return value["$text"].each_slice(2).map { |text, times| text * times }.join if value.key?("$text")

      value.to_h { |key, item| [expand(key), expand(item)] }
    else value
    end
  end

  def keys(object)
    expand(object || {}).transform_keys(&:to_sym)
  end
end

Conformance.run(*ARGV) if $PROGRAM_NAME == __FILE__
