# frozen_string_literal: true

# What the table of conformance can't say of the package: check.rb SERVER DIRECTORY

require "audit_logger"
require "minitest"
require "open3"
require "rbconfig"
require "timeout"

SERVER, DIRECTORY, WAY = ARGV.shift(3)
HANGS = { user_id: "user-1", prompt: "hello", model: "test/hang" }.freeze
ENDLESS = { user_id: "user-1", prompt: "hello", model: "test/endless" }.freeze
HELLO = { user_id: "user-1", prompt: "hello" }.freeze

def config(log)
  { output_path: log, base_url: SERVER, api_key: "sk-test", max_retries: 0 }
end

# In a process of its own, by the_end_of_the_process: streams, and ends meanwhile.
def stream_and_end(way)
  client = AuditLogger::Client.new(**config(File.join(DIRECTORY, way)))
  streaming = Thread::Queue.new
  thread = Thread.new { client.chat(**ENDLESS) { streaming << 1 } }
  thread.report_on_exception = false
  streaming.pop
  case way
  when "exit" then exit 3
  when "raise" then raise "enough"
  when "term"
    puts "streaming"
    $stdout.flush
    thread.join
  end
end
if WAY
  stream_and_end(WAY)
  return
end

class ClientTest < Minitest::Test
  def setup
    @log = File.join(DIRECTORY, name)
    @client = AuditLogger::Client.new(**config(@log))
  end

  def teardown
    @client.close
  end

  def error_types(log = @log)
    File.readlines(*Dir["#{log}/audit_*.jsonl"]).map { |line| JSON.parse(line)["error_type"] }
  end

  def test_what_a_block_raises_cancels_the_call_and_comes_out
    assert_raises(KeyError) { @client.chat(**ENDLESS) { raise KeyError } }
    assert_equal ["Cancelled"], error_types
  end

  def test_what_leaves_a_block_by_break_or_throw_cancels_the_call
    assert_equal 7, @client.chat(**ENDLESS) { break 7 }
    assert_equal 8, catch(:out) { @client.chat(**ENDLESS) { throw :out, 8 } }
    assert_equal 2, @client.stream(**ENDLESS).lazy.map(&:upcase).first(2).size
    assert_equal %w[Cancelled Cancelled Cancelled], error_types
  end

  def test_a_timeout_ends_a_call_that_waits
    # On a busy machine it may be over before the call begins.
    [0.1, 1, 10].each do |time|
      assert_raises(Timeout::Error) { Timeout.timeout(time) { @client.chat(**HANGS) } }
      break unless error_types.empty?
    end
    assert_equal ["Cancelled"], error_types
  end

  def test_a_thread_that_is_killed_cancels_its_call
    thread = Thread.new { @client.chat(**HANGS) }
    sleep 0.01 until JSON.parse(@client.stats)["running"] == 1
    thread.kill.join
    assert_equal ["Cancelled"], error_types
  end

  def test_other_threads_run_while_one_waits
    waiting = Thread.new { @client.start(**HANGS) }.value
    assert_equal "You said: hello", @client.chat(**HELLO).content
    waiting.cancel
    assert_equal [nil, "Cancelled"], error_types
  end

  def test_an_error_has_its_class_and_its_entry
    error = assert_raises(AuditLogger::Error) { @client.chat(**HELLO, model: "test/429") }
    assert_equal %w[AUDIT_E_CALL RateLimitError], [error.status, error.type]
    assert_equal [error.reply.entry], File.readlines(*Dir["#{@log}/audit_*.jsonl"], chomp: true)
  end

  def test_a_call_of_ones_own_is_finished_by_its_block
    call = { user_id: "user-1", model: "m", prompt: "p" }
    @client.begin(**call) { { status: "success", response: "r" } }
    assert_raises(ArgumentError) { @client.begin(**call) { raise ArgumentError } }
    assert_equal [nil, "ArgumentError"], error_types
  end

  def test_a_forked_child_goes_on_with_the_client_and_the_parents_calls_too
    stream = @client.stream(**HELLO)
    child = fork do
      @client.chat(**HELLO)
      exit!(0)
    end
    assert_equal 0, Process.wait2(child).last.exitstatus
    assert_equal "You said: hello", stream.reply.content
    assert_equal [nil, nil], error_types
  end

  def test_bytes_that_are_no_text_are_refused
    assert_raises(JSON::GeneratorError) { @client.chat(user_id: "u", prompt: "\xff") }
  end

  def child(way)
    Open3.popen3(RbConfig.ruby, "-raudit_logger", __FILE__, SERVER, DIRECTORY, way) do |_, out, err, process|
      if way == "term"
        out.gets
        Process.kill("TERM", process.pid)
      end
      said = err.read
      yield process.value, said
    end
    assert_equal ["Cancelled"], error_types(File.join(DIRECTORY, way))
  end

  def test_a_stream_that_runs_at_exit_is_cancelled
    child("exit") do |status, said|
      assert_equal [3, ""], [status.exitstatus, said]
    end
  end

  def test_a_stream_that_runs_when_the_script_dies_is_cancelled
    child("raise") { |status, said| assert_match(/enough/, said) && assert_equal(1, status.exitstatus) }
  end

  def test_a_stream_that_runs_at_sigterm_is_cancelled
    child("term") { |status, _| assert_equal 15, status.termsig }
  end
end

exit Minitest.run(ARGV)
