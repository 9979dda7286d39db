// What the table of conformance can't say of the package: Check.exe SERVER DIRECTORY
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Text.RegularExpressions;
using System.Threading;
using System.Threading.Tasks;
using AuditLogger;

internal static class Check
{
    private static readonly object Hangs = new { user_id = "user-1", prompt = "hello", model = "test/hang" };
    private static readonly object Endless = new { user_id = "user-1", prompt = "hello", model = "test/endless" };
    private static readonly object Hello = new { user_id = "user-1", prompt = "hello" };
    private static string server;
    private static string directory;
    private static int promises;

    private static int Main(string[] arguments)
    {
        server = arguments[0];
        directory = arguments[1];
        if (arguments.Length > 2)
        {
            return StreamAndEnd(arguments[2]);
        }
        Promise("what a callback throws cancels the call and comes out", (client, log) =>
        {
            Exception enough = new InvalidOperationException("enough");
            Same(enough, Thrown(() => client.Chat(Endless, part => { throw enough; })));
            Same("Cancelled", ErrorTypes(log));
        });
        Promise("a stream that is left by break is cancelled", (client, log) =>
        {
            foreach (string part in client.Stream(Endless))
            {
                break;
            }
            Same("Cancelled", ErrorTypes(log));
        });
        Promise("a token ends a call, and its entry is within", (client, log) =>
        {
            CancellationTokenSource source = new CancellationTokenSource();
            Task<Reply> call = client.ChatAsync(Hangs, source.Token);
            source.Cancel();
            OperationCanceledException thrown = (OperationCanceledException)Thrown(() => call.GetAwaiter().GetResult());
            Same(true, ((AuditException)thrown.InnerException).Reply.Entry.Contains("Cancelled"));
            Same(true, call.IsCanceled);
            Same(typeof(OperationCanceledException), Thrown(() => client.Chat(Hello, source.Token)).GetType());
            Same("Cancelled", ErrorTypes(log));
        });
        Promise("a token ends a stream", (client, log) =>
        {
            CancellationTokenSource source = new CancellationTokenSource();
            ChatStream stream = client.Stream(Endless, source.Token);
            Same(true, stream.MoveNextAsync().Result);
            source.Cancel();
            Same(typeof(OperationCanceledException), Thrown(() => { while (stream.MoveNext()) { } }).GetType());
            Same("Cancelled", ErrorTypes(log));
        });
        Promise("an error has its class and its entry", (client, log) =>
        {
            AuditException error = (AuditException)Thrown(
                () => client.Chat(new { user_id = "user-1", prompt = "hello", model = "test/429" }));
            Same("RateLimitError", error.Type);
            Same(error.Reply.Entry, Lines(log).Single());
        });
        Promise("what hangs on a task holds up no other call", (client, log) =>
        {
            Task<string> later = client.ChatAsync(Hello).ContinueWith(
                first => client.Chat(Hello).Content, TaskContinuationOptions.ExecuteSynchronously);
            Same(true, later.Wait(30000));
            Same("You said: hello", later.Result);
        });
        Promise("calls run at once, and hold no thread", (client, log) =>
        {
            ThreadPool.SetMaxThreads(4, 4);
            CancellationTokenSource source = new CancellationTokenSource();
            List<Task<Reply>> calls = Enumerable.Range(0, 50).Select(i => client.ChatAsync(Hangs, source.Token)).ToList();
            Same("You said: hello", client.ChatAsync(Hello).Result.Content);
            source.Cancel();
            Same(typeof(AggregateException), Thrown(() => Task.WaitAll(calls.ToArray())).GetType());
            Same(51, Lines(log).Length);
        });
        Promise("a call of one's own that isn't finished has an entry", (client, log) =>
        {
            using (client.Begin(new { user_id = "user-1", model = "m", prompt = "p" }))
            {
            }
            using (Pending pending = client.Begin(new { user_id = "user-1", model = "m", prompt = "p" }))
            {
                pending.Finish(new { status = "success", response = "r" });
            }
            Same("OutcomeUnknown,null", ErrorTypes(log));
        });
        Promise("half of a character is refused", (client, log) =>
            Same(true, Thrown(() => client.Chat(new { user_id = "u", prompt = "\ud83d" })) is ArgumentException));
        Promise("a number that JSON hasn't is refused", (client, log) =>
            Same(true, Thrown(() => client.Chat(new { user_id = "u", prompt = double.NaN })) is ArgumentException));
        foreach (string way in new[] { "exit", "return" })
        {
            Promise("a stream that runs at the process's end by " + way + " is cancelled", (client, log) =>
            {
                Process child = Process.Start(new ProcessStartInfo
                {
                    FileName = Environment.GetEnvironmentVariable("CHECK"),
                    Arguments = "\"" + server + "\" \"" + Path.Combine(directory, way) + "\" " + way,
                    UseShellExecute = false,
                    RedirectStandardError = true,
                });
                Same("", child.StandardError.ReadToEnd());
                child.WaitForExit();
                Same(way == "exit" ? 3 : 0, child.ExitCode);
                Same("Cancelled", ErrorTypes(Path.Combine(directory, way)));
            });
        }
        Console.WriteLine(promises + " passed, 0 failed");
        return 0;
    }

    /// <summary>In a process of its own: streams, and ends meanwhile.</summary>
    private static int StreamAndEnd(string way)
    {
        Client client = Open(directory);
        ManualResetEventSlim streaming = new ManualResetEventSlim();
        new Thread(() => Thrown(() => client.Chat(Endless, part => streaming.Set()))) { IsBackground = true }.Start();
        streaming.Wait();
        if (way == "exit")
        {
            Environment.Exit(3);
        }
        return 0;
    }

    private static Client Open(string log)
    {
        return new Client(new { output_path = log, base_url = server, api_key = "sk-test", max_retries = 0 });
    }

    private static void Promise(string what, Action<Client, string> promise)
    {
        string log = Path.Combine(directory, (promises++).ToString());
        try
        {
            using (Client client = Open(log))
            {
                promise(client, log);
            }
        }
        catch (Exception e)
        {
            Console.Error.WriteLine(what + ": " + e);
            Environment.Exit(1);
        }
    }

    private static Exception Thrown(Action action)
    {
        try
        {
            action();
        }
        catch (Exception e)
        {
            return e;
        }
        throw new Exception("nothing was thrown");
    }

    private static void Same(object expected, object actual)
    {
        if (!Equals(expected, actual))
        {
            throw new Exception(actual + " instead of " + expected);
        }
    }

    private static string[] Lines(string log)
    {
        return File.ReadAllLines(Directory.GetFiles(log, "audit_*.jsonl").Single());
    }

    /// <summary>What the entries have as error_type, sorted.</summary>
    private static string ErrorTypes(string log)
    {
        IEnumerable<string> types = Lines(log).Select(line => Regex.Match(line, "\"error_type\":\"?(\\w+)").Groups[1].Value);
        return string.Join(",", types.OrderBy(type => type, StringComparer.Ordinal));
    }
}
