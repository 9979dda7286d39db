# A block that raises, in a streamed call. Arguments: the library, the log's directory, the base URL of a
# server that streams a little and then is silent.
require "fiddle"
require "json"

library = Fiddle.dlopen(ARGV[0])
P, Z, I, L = Fiddle::TYPE_VOIDP, Fiddle::TYPE_SIZE_T, Fiddle::TYPE_INT, Fiddle::TYPE_LONG_LONG
function = ->(name, arguments, result) { Fiddle::Function.new(library[name], arguments, result) }
make = function.("audit_logger_new", [P, P, P], I)
chat = function.("audit_chat", [P, P, P], I)
stats = function.("audit_logger_stats", [P, P], I)
text_of = function.("audit_reply_text", [P, I, P], P)
close = function.("audit_logger_close", [P, L, P], I)

config = { output_path: ARGV[1], base_url: ARGV[2], api_key: "sk-test", max_retries: 0 }.to_json
place = Fiddle::Pointer.malloc(8, Fiddle::RUBY_FREE)
raise "no logger" unless make.call(config, place, nil).zero?
logger = place.ptr

raises = Class.new(Fiddle::Closure) { def call(*) = raise("left") }.new(I, [P, Z, P])
user, prompt = %w[user-1 hello].map { |text| Fiddle::Pointer[text] }
# struct_size, flags, seven texts, two callbacks, context, cancel.
words = [160, 0, user.to_i, 6, prompt.to_i, 5] + [0] * 10 + [raises.to_i, 0, 0, 0]
raise "the request has changed" unless words.size * 8 == 160
request = Fiddle::Pointer[words.pack("J*")]
reply = Fiddle::Pointer.malloc(8, Fiddle::RUBY_FREE)
3.times do
  chat.call(logger, request, reply)
  raise "it returned"
rescue RuntimeError => error
  raise unless error.message == "left"
end
raise "no stats" unless stats.call(logger, reply).zero?
raise "a call runs" unless JSON.parse(text_of.call(reply.ptr, 2, nil).to_s)["running"].zero?
raise "not closed" unless close.call(logger, 5000, nil).zero?
