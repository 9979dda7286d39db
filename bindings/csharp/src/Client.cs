using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;

namespace AuditLogger
{
    /// <summary>
    /// Makes chat calls, each of which leaves exactly one entry in the audit log. One for the whole process,
    /// for any number of threads and tasks. Every method that talks to the library throws AuditException, and
    /// a client that is closed answers with AUDIT_E_HANDLE. When the process ends, calls that still run are
    /// cancelled, and their entries say so.
    /// </summary>
    /// <remarks>
    /// Requests, records and configurations are dictionaries or objects of anonymous types, as
    /// schema/request.json, schema/record.json and schema/config.json have them:
    /// <c>new { user_id = "user-42", prompt = "Why is the sky blue?" }</c>.
    /// </remarks>
    public sealed class Client : IDisposable
    {
        private const int Done = 3;
        private static readonly TimeSpan Closing = TimeSpan.FromSeconds(5);

        private readonly IntPtr logger;
        private readonly IntPtr queue;
        private readonly ConcurrentDictionary<ulong, Call> calls = new ConcurrentDictionary<ulong, Call>();
        private long tags;

        /// <summary>Opens the log, and proves that it can be written to.</summary>
        /// <param name="config">See docs/configuration.md.</param>
        /// <param name="queueOptions">running: how many calls run at once (64; to 4,096); event_bytes.</param>
        public Client(object config, object queueOptions = null)
        {
            byte[] options = Native.Terminated(Json.Write(queueOptions ?? new { }));
            int status = Native.audit_logger_new(Native.Terminated(Json.Write(config)), out logger, out IntPtr reply);
            Opened = Reply.Take(status, reply).Checked().Json;
            status = Native.audit_queue_new(logger, options, out queue, out reply);
            if (status != Native.Ok)
            {
                Native.audit_logger_free(logger);
            }
            Reply.Take(status, reply).Checked();
            new Thread(Poll) { IsBackground = true, Name = "audit_logger" }.Start();
            AppDomain.CurrentDomain.ProcessExit += Shutdown;
        }

        /// <summary>What the library said of the log, as JSON: "path", "recovered", "torn", "warnings".</summary>
        public string Opened { get; }

        /// <summary>Makes a call, and waits for its answer on this thread.</summary>
        /// <param name="request">user_id and prompt, and what else schema/request.json has.</param>
        /// <param name="token">Cancels the call.</param>
        public Reply Chat(object request, CancellationToken token = default(CancellationToken))
        {
            return ChatAsync(request, token).GetAwaiter().GetResult();
        }

        /// <summary>
        /// Makes a streamed call, and gives each part of the answer to this thread as it comes. What onDelta
        /// throws cancels the call and comes out of here.
        /// </summary>
        public Reply Chat(object request, Action<string> onDelta, CancellationToken token = default(CancellationToken))
        {
            using (ChatStream stream = Stream(request, token))
            {
                foreach (string part in stream)
                {
                    onDelta(part);
                }
                return stream.Reply();
            }
        }

        /// <summary>Makes a call.</summary>
        /// <exception cref="AuditException">What it failed with.</exception>
        /// <exception cref="OperationCanceledException">The token; within is the AuditException.</exception>
        public async Task<Reply> ChatAsync(object request, CancellationToken token = default(CancellationToken))
        {
            token.ThrowIfCancellationRequested();
            Call call = Submit(Json.Write(request));
            using (token.Register(() => Cancel(call)))
            {
                return Result(await call.Done.Task.ConfigureAwait(false), token);
            }
        }

        /// <summary>Makes a streamed call.</summary>
        /// <param name="request">
        /// As for Chat; with stream = "chunks" the parts are the server's payloads, with "all" both.
        /// </param>
        /// <param name="token">Cancels the call.</param>
        /// <returns>The parts, to be disposed.</returns>
        public ChatStream Stream(object request, CancellationToken token = default(CancellationToken))
        {
            token.ThrowIfCancellationRequested();
            Dictionary<string, object> streamed = Json.Members(request);
            streamed.TryGetValue("stream", out object stream);
            streamed["stream"] = stream ?? true;
            return new ChatStream(this, Submit(Json.Write(streamed)), token);
        }

        /// <summary>Logs a call that the program made itself: one entry.</summary>
        public Reply Log(object record)
        {
            byte[] text = Native.Utf8(Json.Write(record));
            int status = Native.audit_record_json(logger, text, Native.Length(text), out IntPtr reply);
            return Reply.Take(status, reply).Checked();
        }

        /// <summary>Begins a call that the program makes itself, which has an entry even if the process is killed.</summary>
        public Pending Begin(object record)
        {
            byte[] text = Native.Utf8(Json.Write(record));
            int status = Native.audit_record_begin_json(
                logger, text, Native.Length(text), out IntPtr pending, out IntPtr reply);
            return new Pending(pending, Reply.Take(status, reply).Checked().EntryId);
        }

        /// <summary>What the log shows for a text: 64 hexadecimal digits.</summary>
        public string Hash(string text)
        {
            byte[] bytes = Native.Utf8(text);
            int status = Native.audit_logger_hash(logger, bytes, Native.Length(bytes), out IntPtr reply);
            return Reply.Take(status, reply).Checked().Content;
        }

        /// <summary>The health of the logger, as JSON.</summary>
        public string Stats()
        {
            int status = Native.audit_logger_stats(logger, out IntPtr reply);
            return Reply.Take(status, reply).Checked().Json;
        }

        /// <summary>
        /// Has the disk confirm what was written, and seals it. With witnessed it waits until the log's witnesses
        /// have signed it too; the exception's status is "AUDIT_E_WITNESS" if they haven't in time.
        /// </summary>
        public void Flush(TimeSpan timeout, bool witnessed = false)
        {
            byte[] options = Native.Terminated(Json.Write(new { witnessed }));
            int status = Native.audit_logger_flush_with(logger, (long)timeout.TotalMilliseconds, options, out IntPtr reply);
            Reply.Take(status, reply).Checked();
        }

        /// <summary>Closes it, with 5 seconds for calls that run.</summary>
        public void Dispose()
        {
            Close(Closing);
        }

        /// <summary>
        /// Takes no new calls, waits for the running ones, cancels those that are left when the time is up,
        /// and has the disk confirm and seal the log. Closing twice is fine.
        /// </summary>
        public void Close(TimeSpan timeout)
        {
            int status = Native.audit_logger_close(logger, (long)timeout.TotalMilliseconds, out IntPtr reply);
            Reply closed = Reply.Take(status, reply);
            if (status == Native.Handle)
            {
                return;
            }
            // They have ended; what they came to is on its way to who waits for it.
            Task.WaitAll(calls.Values.Select(call => (Task)call.Done.Task).ToArray(), Closing);
            Native.audit_queue_free(queue);
            Native.audit_logger_free(logger);
            AppDomain.CurrentDomain.ProcessExit -= Shutdown;
            closed.Checked();
        }

        internal static Reply Result(Reply reply, CancellationToken token)
        {
            if (token.IsCancellationRequested && reply.Status == "AUDIT_E_CANCELLED")
            {
                throw new OperationCanceledException(reply.ErrorMessage, new AuditException(reply), token);
            }
            return reply.Checked();
        }

        internal void Cancel(Call call)
        {
            if (!call.IsDone)
            {
                // Not found where it has just ended.
                Native.audit_queue_cancel(queue, call.Tag, IntPtr.Zero);
            }
        }

        private Call Submit(string request)
        {
            byte[] text = Native.Utf8(request);
            Call call = new Call((ulong)Interlocked.Increment(ref tags));
            calls[call.Tag] = call;
            int status = Native.audit_queue_submit(queue, text, Native.Length(text), call.Tag, out IntPtr reply);
            if (status != Native.Ok)
            {
                calls.TryRemove(call.Tag, out _);
            }
            Reply.Take(status, reply).Checked();
            return call;
        }

        /// <summary>The one thread: gives each event to the call that it belongs to.</summary>
        private void Poll()
        {
            IntPtr got;
            while (Native.audit_queue_next(queue, -1, out got) == Native.Ok)
            {
                ulong tag = (ulong)Native.audit_reply_int(got, Reply.TagField);
                int kind = (int)Native.audit_reply_int(got, Reply.EventField);
                Call call = calls[tag];
                if (kind == Done)
                {
                    calls.TryRemove(tag, out call);
                    call.End(Reply.Take((int)Native.audit_reply_int(got, Reply.StatusField), got));
                }
                else
                {
                    call.Add(kind, Native.Text(got, Reply.ContentField));
                    Native.audit_reply_free(got);
                }
            }
            // The queue is gone, and with it what it still had to tell.
            Native.audit_reply_free(got);
            foreach (Call call in calls.Values)
            {
                call.End(Reply.Closed());
            }
        }

        private void Shutdown(object sender, EventArgs e)
        {
            Native.audit_queue_free(queue);
            Native.audit_logger_close(logger, 0, out IntPtr reply);
            Native.audit_reply_free(reply);
            Native.audit_logger_free(logger);
        }
    }
}
