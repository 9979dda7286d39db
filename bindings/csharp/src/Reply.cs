using System;

namespace AuditLogger
{
    /// <summary>What the library answers. What isn't known is null.</summary>
    public sealed class Reply
    {
        internal const int ContentField = 1;
        internal const int StatusField = 107;
        internal const int EventField = 108;
        internal const int TagField = 109;

        /// <summary>"AUDIT_OK", or the name of an error's status.</summary>
        public string Status { get; private set; }

        /// <summary>The answer of the model, or the part of it that came before an error.</summary>
        public string Content { get; private set; }

        /// <summary>The body of the response; of a streamed one the chat.completion that it adds up to.</summary>
        public string Json { get; private set; }

        /// <summary>The entry, as its line stands in the log.</summary>
        public string Entry { get; private set; }

        /// <summary>The id of the entry.</summary>
        public string EntryId { get; private set; }

        /// <summary>The class of the error ("RateLimitError"), or the name of the status; "" for a success.</summary>
        public string ErrorType { get; private set; }

        /// <summary>What was wrong, for a person.</summary>
        public string ErrorMessage { get; private set; }

        /// <summary>Why generation stopped.</summary>
        public string FinishReason { get; private set; }

        /// <summary>The model that answered.</summary>
        public string Model { get; private set; }

        /// <summary>The provider that a router chose.</summary>
        public string Provider { get; private set; }

        /// <summary>The provider's name for the answer.</summary>
        public string GenerationId { get; private set; }

        /// <summary>The provider's own class of the error.</summary>
        public string ProviderErrorType { get; private set; }

        /// <summary>The status of the last response.</summary>
        public long? HttpStatus { get; private set; }

        /// <summary>0: nothing was sent; 1: the server answered; 2: it may have been processed and billed.</summary>
        public long? Outcome { get; private set; }

        /// <summary>Tokens of the prompt.</summary>
        public long? PromptTokens { get; private set; }

        /// <summary>Tokens of the answer.</summary>
        public long? CompletionTokens { get; private set; }

        /// <summary>Milliseconds that the server asks to wait.</summary>
        public long? RetryAfterMs { get; private set; }

        /// <summary>How often the request was tried.</summary>
        public long? Attempts { get; private set; }

        /// <summary>Reads a reply of the library's, and frees it.</summary>
        internal static Reply Take(int status, IntPtr reply)
        {
            try
            {
                return new Reply
                {
                    Status = Native.StatusName(status),
                    Content = Native.Text(reply, ContentField),
                    Json = Native.Text(reply, 2),
                    Entry = Native.Text(reply, 3),
                    EntryId = Native.Text(reply, 4),
                    ErrorType = Native.Text(reply, 5),
                    ErrorMessage = Native.Text(reply, 6),
                    FinishReason = Native.Text(reply, 7),
                    Model = Native.Text(reply, 8),
                    Provider = Native.Text(reply, 9),
                    GenerationId = Native.Text(reply, 10),
                    ProviderErrorType = Native.Text(reply, 11),
                    HttpStatus = Number(reply, 101),
                    Outcome = Number(reply, 102),
                    PromptTokens = Number(reply, 103),
                    CompletionTokens = Number(reply, 104),
                    RetryAfterMs = Number(reply, 105),
                    Attempts = Number(reply, 106),
                };
            }
            finally
            {
                Native.audit_reply_free(reply);
            }
        }

        /// <summary>Of a call whose queue is gone.</summary>
        internal static Reply Closed()
        {
            return new Reply
            {
                Status = Native.StatusName(Native.Cancelled),
                ErrorType = "Cancelled",
                ErrorMessage = "the client was closed, or the process ends",
            };
        }

        internal Reply Checked()
        {
            if (Status != "AUDIT_OK")
            {
                throw new AuditException(this);
            }
            return this;
        }

        private static long? Number(IntPtr reply, int field)
        {
            long number = Native.audit_reply_int(reply, field);
            return number < 0 ? (long?)null : number;
        }
    }

    /// <summary>Why a function of the library failed. The call that it was about has its entry: see Reply.</summary>
    public sealed class AuditException : Exception
    {
        internal AuditException(Reply reply)
            : base(reply.ErrorType + ": " + reply.ErrorMessage)
        {
            Reply = reply;
        }

        /// <summary>
        /// What came all the same: a part of the answer, the entry; with AUDIT_E_LOG_PENDING the whole
        /// answer, whose entry waits for the log.
        /// </summary>
        public Reply Reply { get; }

        /// <summary>The name of the status: "AUDIT_E_CALL", "AUDIT_E_CANCELLED", ...</summary>
        public string Status => Reply.Status;

        /// <summary>The class of the error, as the entry has it: "RateLimitError", "Cancelled", ...</summary>
        public string Type => Reply.ErrorType;
    }
}
