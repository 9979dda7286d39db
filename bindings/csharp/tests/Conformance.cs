// The runner of the table, as conformance/README.md describes it: Conformance.exe CASES SERVER DIRECTORY
using System;
using System.Collections;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using System.Text.RegularExpressions;
using System.Threading;
using System.Threading.Tasks;
using System.Web.Script.Serialization;
using AuditLogger;

using Json = System.Collections.Generic.Dictionary<string, object>;

internal sealed class Skip : Exception
{
    internal Skip(string why) : base(why) { }
}

/// <summary>What a call came to.</summary>
internal sealed class Came
{
    internal Reply Reply;
    internal readonly List<object> Deltas = new List<object>();
    internal readonly List<object> Chunks = new List<object>();
}

internal sealed class Conformance
{
    private static readonly JavaScriptSerializer Serializer =
        new JavaScriptSerializer { MaxJsonLength = int.MaxValue };

    private static readonly string[] Outcomes =
        { "AUDIT_OUTCOME_NOT_SENT", "AUDIT_OUTCOME_ANSWERED", "AUDIT_OUTCOME_UNKNOWN" };

    private static readonly Dictionary<string, string> Patterns = new Dictionary<string, string>
    {
        { "$text", "(?s)." },
        { "$uuid", "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\\z" },
        { "$hash", "^[0-9a-f]{64}\\z" },
        { "$timestamp", "^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{6}Z\\z" },
    };

    private readonly Json test;
    private readonly string log;
    private readonly List<KeyValuePair<string, string>> words = new List<KeyValuePair<string, string>>();
    private readonly Dictionary<string, object> named = new Dictionary<string, object>();
    private readonly Dictionary<string, CancellationTokenSource> cancels =
        new Dictionary<string, CancellationTokenSource>();
    private readonly List<string> lines = new List<string>();
    private Client client;

    private Conformance(string cases, string server, string directory, Json test, int number)
    {
        this.test = test;
        log = Path.Combine(directory, number.ToString());
        Word("$SERVER", server);
        Word("$LOG", log);
        Word("$CASES", Path.GetDirectoryName(Path.GetFullPath(cases)));
        Word("$CASE", (string)test["name"]);
    }

    private static int Main(string[] arguments)
    {
        int failed = 0;
        int number = 0;
        foreach (Json test in (object[])Read(File.ReadAllText(arguments[0])))
        {
            string result = "pass";
            string reason = "";
            try
            {
                new Conformance(arguments[0], arguments[1], arguments[2], test, number++).Run();
            }
            catch (Skip e)
            {
                result = "skip";
                reason = e.Message;
            }
            catch (Exception e)
            {
                result = "fail";
                reason = e.GetType() + ": " + e.Message;
                failed = 1;
            }
            Console.WriteLine(Serializer.Serialize(new { @case = test["name"], result, reason }));
        }
        return failed;
    }

    private static object Read(string json)
    {
        return Serializer.DeserializeObject(json);
    }

    private void Word(string name, string word)
    {
        words.RemoveAll(pair => pair.Key == name);
        words.Add(new KeyValuePair<string, string>(name, word));
    }

    private void Run()
    {
        Json config = new Json
        {
            { "output_path", "$LOG" }, { "base_url", "$SERVER" }, { "api_key", "sk-test" }, { "max_retries", 0 },
        };
        foreach (KeyValuePair<string, object> member in Of(test, "config") as Json ?? new Json())
        {
            config[member.Key] = member.Value;
        }
        object open = Of(test, "open") ?? new Json { { "status", "AUDIT_OK" } };
        Expect(open, "open", () =>
        {
            client = new Client(Expand(config));
            return new Json { { "json", client.Opened } };
        });
        int at = 0;
        foreach (Json step in (object[])Of(test, "steps") ?? new object[0])
        {
            string place = "step " + at++;
            if ((string)step["do"] == "together")
            {
                Together(step, place);
            }
            else
            {
                Expect(Of(step, "expect") ?? new Json(), place, () => Perform(step));
            }
        }
        client?.Close(TimeSpan.FromSeconds(30));
        Written();
    }

    private void Written()
    {
        List<string> written = new List<string>();
        if (Directory.Exists(log))
        {
            foreach (string file in Directory.GetFiles(log, "audit_*.jsonl"))
            {
                written.AddRange(File.ReadAllText(file).Split(new[] { '\n' }, StringSplitOptions.RemoveEmptyEntries));
            }
        }
        if (written.Count != (int)test["entries"])
        {
            throw new Exception(written.Count + " entries instead of " + test["entries"]);
        }
        foreach (string line in lines.Where(line => !written.Contains(line)))
        {
            throw new Exception("not in the log: " + line);
        }
    }

    /// <summary>Performs a step, and returns what came of it: members of "expect".</summary>
    private Json Perform(Json step)
    {
        if (step.ContainsKey("request_text"))
        {
            throw new Skip("the package makes the JSON itself");
        }
        Json request = (Json)Expand(Of(step, "request"));
        object record = Expand(Of(step, "record"));
        string name = (string)Of(step, "as");
        int milliseconds = (int)(Of(step, "timeout_ms") ?? Of(step, "ms") ?? 0);
        TimeSpan timeout = TimeSpan.FromMilliseconds(milliseconds);
        switch ((string)step["do"])
        {
            case "chat":
                return Facts(Start(request, CancellationToken.None, (int?)Of(step, "stop_after"))().Result);
            case "start":
                cancels[name] = new CancellationTokenSource();
                named[name] = Start(request, cancels[name].Token, null)();
                return new Json();
            case "cancel":
                cancels[name].Cancel();
                return new Json();
            case "await":
                return Facts(((Task<Came>)named[name]).Result);
            case "sleep":
                Thread.Sleep(milliseconds);
                return new Json();
            case "log":
                return Facts(client.Log(record));
            case "begin":
                named[name] = client.Begin(record);
                return new Json();
            case "finish":
                return Facts(((Pending)named[name]).Finish(record));
            case "flush":
                client.Flush(timeout, step.ContainsKey("witnessed"));
                return new Json();
            case "stats":
                return new Json { { "json", client.Stats() } };
            case "hash":
                return new Json { { "text", client.Hash((string)step["text"]) } };
            case "close":
                client.Close(timeout);
                return new Json();
            default:
                throw new Exception("an unknown step: " + step["do"]);
        }
    }

    private Func<Task<Came>> Start(Json request, CancellationToken token, int? stopAfter)
    {
        object stream = Of(request, "stream");
        if (stream == null || stream.Equals(false))
        {
            return async () => new Came { Reply = await Tolerant(() => client.ChatAsync(request, token)) };
        }
        return () => Streamed(client.Stream(request, token), stopAfter);
    }

    private static async Task<Came> Streamed(ChatStream stream, int? stopAfter)
    {
        Came came = new Came();
        came.Reply = await Tolerant(async () =>
        {
            while (came.Deltas.Count != stopAfter && await stream.MoveNextAsync())
            {
                (stream.IsChunk ? came.Chunks : came.Deltas).Add(stream.Current);
            }
            if (stopAfter != null)
            {
                await stream.DisposeAsync();
            }
            return await stream.ReplyAsync();
        });
        return came;
    }

    private static async Task<Reply> Tolerant(Func<Task<Reply>> ask)
    {
        try
        {
            return await ask();
        }
        catch (AuditException e)
        {
            return e.Reply;
        }
        catch (OperationCanceledException e)
        {
            return ((AuditException)e.InnerException).Reply;
        }
    }

    private void Together(Json step, string place)
    {
        List<Task<Came>> calls = new List<Task<Came>>();
        for (int number = 0; number < (int)step["count"]; number++)
        {
            Word("$N", number.ToString());
            calls.Add(Start((Json)Expand(step["request"]), CancellationToken.None, null)());
        }
        for (int number = 0; number < calls.Count; number++)
        {
            Word("$N", number.ToString());
            Expect(step["expect"], place + ", call " + number, () => Facts(calls[number].Result));
        }
    }

    private static Json Facts(Came came)
    {
        Json facts = Facts(came.Reply);
        facts["deltas"] = came.Deltas.ToArray();
        facts["chunks"] = came.Chunks.ToArray();
        return facts;
    }

    private static Json Facts(Reply reply)
    {
        Json fields = new Json();
        foreach (var property in typeof(Reply).GetProperties())
        {
            string name = Regex.Replace(property.Name, "(?<!^)[A-Z]", "_$0").ToLowerInvariant();
            fields[name] = property.GetValue(reply, null);
        }
        fields["outcome"] = reply.Outcome == null ? null : Outcomes[reply.Outcome.Value];
        return new Json
        {
            { "status", reply.Status }, { "error_type", reply.ErrorType }, { "message", reply.ErrorMessage },
            { "text", reply.Content }, { "json", reply.Json }, { "entry", reply.Entry }, { "line", reply.Entry },
            { "reply", fields },
        };
    }

    private void Expect(object expected, string place, Func<Json> perform)
    {
        Json facts;
        try
        {
            facts = perform();
        }
        catch (AuditException e)
        {
            facts = Facts(e.Reply);
        }
        if (!facts.ContainsKey("status"))
        {
            facts["status"] = "AUDIT_OK";
            facts["error_type"] = "";
        }
        if (Of(facts, "line") != null)
        {
            lines.Add((string)facts["line"]);
        }
        foreach (KeyValuePair<string, object> member in (Json)Expand(expected))
        {
            object value = Of(facts, member.Key == "text_json" ? "text" : member.Key);
            switch (member.Key)
            {
                case "message":
                case "line":
                    if (value == null || !((string)value).Contains((string)member.Value))
                    {
                        throw new Exception(place + ": " + member.Key + ": " + value + " has no " + member.Value);
                    }
                    continue;
                case "json":
                case "entry":
                case "text_json":
                    value = value == null ? null : Read((string)value);
                    break;
                case "chunks":
                    value = ((object[])value).Select(chunk => Read((string)chunk)).ToArray();
                    break;
            }
            Match(member.Value, value, place + ": " + member.Key);
        }
    }

    private static void Match(object wanted, object value, string place)
    {
        if (wanted is Json && value is Json)
        {
            foreach (KeyValuePair<string, object> member in (Json)wanted)
            {
                bool absent = "$absent".Equals(member.Value);
                if (((Json)value).ContainsKey(member.Key) == absent)
                {
                    throw new Exception(place + ": " + member.Key + (absent ? " is there" : " isn't there"));
                }
                if (!absent)
                {
                    Match(member.Value, ((Json)value)[member.Key], place + "." + member.Key);
                }
            }
            return;
        }
        object[] items = wanted as object[];
        object[] values = value as object[];
        if (items != null && values != null && items.Length == values.Length)
        {
            for (int at = 0; at < items.Length; at++)
            {
                Match(items[at], values[at], place + "[" + at + "]");
            }
            return;
        }
        string text = wanted as string;
        string pattern;
        bool good;
        if (text == "$any")
        {
            good = true;
        }
        else if (text == "$number")
        {
            good = Number(value) >= 0;
        }
        else if (text != null && Patterns.TryGetValue(text, out pattern))
        {
            good = value is string && Regex.IsMatch((string)value, pattern);
        }
        else
        {
            good = Number(wanted) == null ? Equals(wanted, value) : Number(wanted) == Number(value);
        }
        if (!good)
        {
            throw new Exception(place + ": " + Cut(value) + " instead of " + Cut(wanted));
        }
    }

    private static decimal? Number(object value)
    {
        bool number = value is int || value is long || value is decimal || value is double;
        return number ? Convert.ToDecimal(value) : (decimal?)null;
    }

    private static string Cut(object value)
    {
        string json = Serializer.Serialize(value);
        return json.Length > 200 ? json.Substring(0, 200) : json;
    }

    private object Expand(object value)
    {
        if (value is string)
        {
            return words.Aggregate((string)value, (text, pair) => text.Replace(pair.Key, pair.Value));
        }
        if (value is object[])
        {
            return ((object[])value).Select(Expand).ToArray();
        }
        Json members = value as Json;
        if (members == null)
        {
            return value;
        }
        if (members.ContainsKey("$text"))
        {
            StringBuilder text = new StringBuilder();
            object[] parts = (object[])members["$text"];
            for (int at = 0; at < parts.Length; at += 2)
            {
                text.Insert(text.Length, (string)parts[at], (int)parts[at + 1]);
            }
            return text.ToString();
        }
        return members.ToDictionary(member => (string)Expand(member.Key), member => Expand(member.Value));
    }

    private static object Of(Json members, string name)
    {
        object value;
        return members.TryGetValue(name, out value) ? value : null;
    }
}
