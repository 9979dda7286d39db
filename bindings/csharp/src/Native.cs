using System;
using System.Runtime.InteropServices;
using System.Text;

namespace AuditLogger
{
    /// <summary>
    /// The functions of the library. Handles are checked by the library itself, so they are plain pointers
    /// here: a SafeHandle would keep the queue alive for as long as the poller waits in it.
    /// </summary>
    internal static class Native
    {
        internal const int Ok = 0;
        internal const int Handle = -2;
        internal const int Cancelled = -7;

        private const string Library = "audit_logger";

        // Refuses half of a character: replaced, another text than the caller's would be sent.
        private static readonly UTF8Encoding Strict = new UTF8Encoding(false, true);

        [DllImport(Library)] internal static extern int audit_logger_new(byte[] config, out IntPtr logger, out IntPtr reply);
        [DllImport(Library)] internal static extern int audit_logger_flush_with(
            IntPtr logger, long timeoutMs, byte[] options, out IntPtr reply);
        [DllImport(Library)] internal static extern int audit_logger_close(IntPtr logger, long timeoutMs, out IntPtr reply);
        [DllImport(Library)] internal static extern void audit_logger_free(IntPtr logger);
        [DllImport(Library)] internal static extern int audit_logger_stats(IntPtr logger, out IntPtr reply);
        [DllImport(Library)] internal static extern int audit_logger_hash(IntPtr logger, byte[] text, UIntPtr length, out IntPtr reply);
        [DllImport(Library)] internal static extern int audit_record_json(IntPtr logger, byte[] record, UIntPtr length, out IntPtr reply);
        [DllImport(Library)] internal static extern int audit_record_begin_json(
            IntPtr logger, byte[] record, UIntPtr length, out IntPtr pending, out IntPtr reply);
        [DllImport(Library)] internal static extern int audit_record_finish_json(
            IntPtr pending, byte[] record, UIntPtr length, out IntPtr reply);
        [DllImport(Library)] internal static extern int audit_queue_new(IntPtr logger, byte[] options, out IntPtr queue, out IntPtr reply);
        [DllImport(Library)] internal static extern int audit_queue_submit(
            IntPtr queue, byte[] request, UIntPtr length, ulong tag, out IntPtr reply);
        [DllImport(Library)] internal static extern int audit_queue_next(IntPtr queue, long timeoutMs, out IntPtr reply);
        [DllImport(Library)] internal static extern int audit_queue_cancel(IntPtr queue, ulong tag, IntPtr noReply);
        [DllImport(Library)] internal static extern void audit_queue_free(IntPtr queue);
        [DllImport(Library)] internal static extern IntPtr audit_reply_text(IntPtr reply, int field, out UIntPtr length);
        [DllImport(Library)] internal static extern long audit_reply_int(IntPtr reply, int field);
        [DllImport(Library)] internal static extern void audit_reply_free(IntPtr reply);
        [DllImport(Library)] internal static extern IntPtr audit_status_name(int status);

        internal static byte[] Utf8(string text) => Strict.GetBytes(text);

        /// <summary>For what takes no length: JSON, which holds no NUL.</summary>
        internal static byte[] Terminated(string json) => Strict.GetBytes(json + "\0");

        internal static UIntPtr Length(byte[] text) => (UIntPtr)text.Length;

        internal static string Text(IntPtr reply, int field)
        {
            IntPtr text = audit_reply_text(reply, field, out UIntPtr length);
            return text == IntPtr.Zero ? null : Copy(text, (int)length);
        }

        internal static string StatusName(int status)
        {
            IntPtr name = audit_status_name(status);
            int length = 0;
            while (Marshal.ReadByte(name, length) != 0)
            {
                length++;
            }
            return Copy(name, length);
        }

        private static string Copy(IntPtr text, int length)
        {
            byte[] bytes = new byte[length];
            Marshal.Copy(text, bytes, 0, length);
            return Encoding.UTF8.GetString(bytes);
        }
    }
}
