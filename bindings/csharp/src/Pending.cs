using System;

namespace AuditLogger
{
    /// <summary>
    /// A call that the program makes by another client, from Client.Begin. Disposed without having been
    /// finished, its entry says "OutcomeUnknown", as if the process had been killed.
    /// </summary>
    public sealed class Pending : IDisposable
    {
        private readonly IntPtr handle;

        internal Pending(IntPtr handle, string entryId)
        {
            this.handle = handle;
            EntryId = entryId;
        }

        /// <summary>The id that the entry will have.</summary>
        public string EntryId { get; }

        /// <summary>Writes the entry.</summary>
        /// <param name="record">status ("success" or "error"), and what else schema/record.json has.</param>
        /// <exception cref="AuditException">
        /// AUDIT_E_ARGUMENT (it can be finished again), AUDIT_E_HANDLE (it was before).
        /// </exception>
        public Reply Finish(object record)
        {
            byte[] text = Native.Utf8(Json.Write(record));
            int status = Native.audit_record_finish_json(handle, text, Native.Length(text), out IntPtr reply);
            return Reply.Take(status, reply).Checked();
        }

        /// <inheritdoc/>
        public void Dispose()
        {
            try
            {
                Finish(new { status = "error", error_type = "OutcomeUnknown" });
            }
            catch (AuditException e) when (e.Status == "AUDIT_E_HANDLE")
            {
                // It was finished.
            }
        }
    }
}
