// An audited chat call, a stream, and one that is cancelled: what examples/chat.c does, in C#.
//
//   mcs -r:AuditLogger.dll Chat.cs        (or a project with a reference to the package AuditLogger)
//   OPENROUTER_API_KEY=... mono Chat.exe "Why is the sky blue?"
//
// Without a key, try it on the server in examples/server; AUDIT_BASE_URL says where it listens.
using System;
using System.IO;
using AuditLogger;

internal static class Chat
{
    private static int Main(string[] arguments)
    {
        string url = Environment.GetEnvironmentVariable("AUDIT_BASE_URL") ?? "https://openrouter.ai/api/v1";
        try
        {
            // 1. Make a client: one for the whole process, shared by all threads. The key comes from the environment.
            using (Client client = new Client(new { output_path = "audit_logs", base_url = url }))
            {
                Console.WriteLine("log: " + Path.GetFullPath("audit_logs"));

                // 2. Ask. Nothing is sent unless the log can take the entry.
                var request = new
                {
                    user_id = "user-42",
                    prompt = arguments.Length > 0 ? arguments[0] : "Say hello in one sentence.",
                    metadata = new { feature = "example", ticket = 7 },
                    @params = new { max_tokens = 200 },
                };
                Reply reply = client.Chat(request);

                // 3. The answer, and the line that now stands in today's log.
                Console.WriteLine("answer: " + reply.Content);
                Console.WriteLine("tokens: " + reply.PromptTokens + " + " + reply.CompletionTokens);
                Console.WriteLine("entry: " + reply.Entry);

                // 4. The same as a stream, its pieces as they come.
                Console.Write("stream: ");
                client.Chat(request, Console.Write);
                Console.WriteLine();

                // 5. One that is left at its first piece. It's cancelled, and has its entry all the same.
                foreach (string piece in client.Stream(request))
                {
                    Console.WriteLine("cancelled after: " + piece);
                    break;
                }

                // 6. The end of using waits up to five seconds for calls of other threads, and has the disk
                //    confirm the log.
            }
            return 0;
        }
        catch (AuditException e)
        {
            // A failed call has its entry too: e.Reply.Entry.
            Console.Error.WriteLine(e.Message);
            return 1;
        }
    }
}
