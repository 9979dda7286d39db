# frozen_string_literal: true

# An audited chat call, a stream, and one that is cancelled: what examples/chat.c does, in Ruby.
#
#   gem install audit_logger-0.1.0-x86_64-linux.gem
#   OPENROUTER_API_KEY=... ruby chat.rb "Why is the sky blue?"
#
# Without a key, try it on the server in examples/server; AUDIT_BASE_URL says where it listens.
require "audit_logger"

$stdout.sync = true
url = ENV.fetch("AUDIT_BASE_URL", "https://openrouter.ai/api/v1")

begin
  # 1. Make a client: one for the whole process, shared by all threads. The key comes from the environment.
  AuditLogger::Client.open(output_path: "audit_logs", base_url: url) do |client|
    puts "log: #{JSON.parse(client.opened)["path"]}"

    # 2. Ask. Nothing is sent unless the log can take the entry.
    request = {
      user_id: "user-42", prompt: ARGV.fetch(0, "Say hello in one sentence."),
      metadata: { feature: "example", ticket: 7 }, params: { max_tokens: 200 }
    }
    reply = client.chat(**request)

    # 3. The answer, and the line that now stands in today's log.
    puts "answer: #{reply.content}"
    puts "tokens: #{reply.prompt_tokens} + #{reply.completion_tokens}"
    puts "entry: #{reply.entry}"

    # 4. The same as a stream, its pieces as they come.
    print "stream: "
    client.chat(**request) { |piece| print piece }
    puts

    # 5. One that is left at its first piece. It's cancelled, and has its entry all the same.
    puts "cancelled after: #{client.stream(**request).first}"

    # 6. The end of the block waits up to five seconds for calls of other threads, and has the disk confirm
    #    the log.
  end
rescue AuditLogger::Error => e
  # A failed call has its entry too: e.reply.entry.
  abort e.message
end
