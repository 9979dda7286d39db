using System;
using System.Collections;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;

namespace AuditLogger
{
    /// <summary>A call that was submitted.</summary>
    internal sealed class Call
    {
        internal readonly ulong Tag;
        internal readonly ConcurrentQueue<KeyValuePair<int, string>> Parts =
            new ConcurrentQueue<KeyValuePair<int, string>>();
        internal readonly SemaphoreSlim Ready = new SemaphoreSlim(0);

        // What goes on after it never runs on the poller.
        internal readonly TaskCompletionSource<Reply> Done =
            new TaskCompletionSource<Reply>(TaskCreationOptions.RunContinuationsAsynchronously);

        internal Call(ulong tag)
        {
            Tag = tag;
        }

        internal bool IsDone => Done.Task.IsCompleted;

        internal void Add(int kind, string text)
        {
            Parts.Enqueue(new KeyValuePair<int, string>(kind, text));
            Ready.Release();
        }

        internal void End(Reply reply)
        {
            Done.TrySetResult(reply);
            Ready.Release();
        }
    }

    /// <summary>
    /// The parts of a streamed answer as they come, for foreach, await foreach, or MoveNextAsync and Current
    /// by hand. For one thread at a time. Where the call fails, so does moving on, after what came before.
    /// Disposed before its end (leaving the loop does that), the call is cancelled, and its entry says so.
    /// </summary>
    public sealed class ChatStream : IEnumerable<string>, IEnumerator<string>
    {
        private const int Chunk = 2;

        private readonly Client client;
        private readonly Call call;
        private readonly CancellationToken token;
        private readonly CancellationTokenRegistration registration;

        internal ChatStream(Client client, Call call, CancellationToken token)
        {
            this.client = client;
            this.call = call;
            this.token = token;
            registration = token.Register(() => client.Cancel(call));
        }

        /// <summary>The part that came last.</summary>
        public string Current { get; private set; }

        /// <summary>Whether it's a payload of the server's, as with stream = "chunks" or "all".</summary>
        public bool IsChunk { get; private set; }

        object IEnumerator.Current => Current;

        /// <summary>Waits for a part, on this thread. False at the end of the answer.</summary>
        public bool MoveNext()
        {
            call.Ready.Wait();
            return Taken() || Ended();
        }

        /// <summary>Waits for a part. False at the end of the answer.</summary>
        public async Task<bool> MoveNextAsync()
        {
            await call.Ready.WaitAsync().ConfigureAwait(false);
            return Taken() || Ended();
        }

        /// <summary>Waits for the end of the call: all of the answer, and the entry.</summary>
        public async Task<Reply> ReplyAsync() => Client.Result(await call.Done.Task.ConfigureAwait(false), token);

        /// <summary>Waits for the end of the call, on this thread.</summary>
        public Reply Reply() => ReplyAsync().GetAwaiter().GetResult();

        /// <summary>Ends the call, if it runs, and waits until its entry is written.</summary>
        public void Dispose()
        {
            registration.Dispose();
            client.Cancel(call);
            call.Done.Task.Wait();
        }

        /// <summary>The same for await foreach.</summary>
        public Task DisposeAsync()
        {
            registration.Dispose();
            client.Cancel(call);
            return call.Done.Task;
        }

        /// <summary>Itself, for await foreach.</summary>
        public ChatStream GetAsyncEnumerator() => this;

        /// <summary>Itself: the parts can be taken once.</summary>
        public IEnumerator<string> GetEnumerator() => this;

        IEnumerator IEnumerable.GetEnumerator() => this;

        void IEnumerator.Reset()
        {
            throw new NotSupportedException("the parts of an answer come once");
        }

        private bool Taken()
        {
            if (!call.Parts.TryDequeue(out KeyValuePair<int, string> part))
            {
                return false;
            }
            IsChunk = part.Key == Chunk;
            Current = part.Value;
            return true;
        }

        private bool Ended()
        {
            call.Ready.Release(); // So that moving on again is no wait.
            Client.Result(call.Done.Task.Result, token);
            return false;
        }
    }
}
