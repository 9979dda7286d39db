using System;
using System.Collections;
using System.Globalization;
using System.Reflection;
using System.Text;

namespace AuditLogger
{
    /// <summary>Writes requests, records and configurations, for netstandard2.0 has no JSON of its own.</summary>
    internal static class Json
    {
        internal static string Write(object value)
        {
            StringBuilder json = new StringBuilder();
            Write(json, value);
            return json.ToString();
        }

        private static void Write(StringBuilder json, object value)
        {
            if (value == null)
            {
                json.Append("null");
            }
            else if (value is string)
            {
                Quote(json, (string)value);
            }
            else if (value is bool)
            {
                json.Append((bool)value ? "true" : "false");
            }
            else if (value is IDictionary)
            {
                string separator = "{";
                foreach (DictionaryEntry member in (IDictionary)value)
                {
                    Member(json, ref separator, Convert.ToString(member.Key, CultureInfo.InvariantCulture), member.Value);
                }
                json.Append(separator == "{" ? "{}" : "}");
            }
            else if (value is IEnumerable)
            {
                string separator = "[";
                foreach (object item in (IEnumerable)value)
                {
                    Write(json.Append(separator), item);
                    separator = ",";
                }
                json.Append(separator == "[" ? "[]" : "]");
            }
            else if (value is IFormattable && value.GetType().IsValueType && !(value is Enum))
            {
                Number(json, (IFormattable)value);
            }
            else
            {
                // An object of an anonymous type, mostly.
                string separator = "{";
                foreach (PropertyInfo property in value.GetType().GetProperties())
                {
                    Member(json, ref separator, property.Name, property.GetValue(value, null));
                }
                json.Append(separator == "{" ? "{}" : "}");
            }
        }

        private static void Member(StringBuilder json, ref string separator, string name, object value)
        {
            Quote(json.Append(separator), name);
            Write(json.Append(':'), value);
            separator = ",";
        }

        private static void Number(StringBuilder json, IFormattable value)
        {
            bool floating = value is double || value is float;
            string number = value.ToString(floating ? "R" : null, CultureInfo.InvariantCulture);
            double read;
            if (!double.TryParse(number, NumberStyles.Float, CultureInfo.InvariantCulture, out read)
                || double.IsNaN(read) || floating && double.IsInfinity(read))
            {
                throw new ArgumentException("JSON has no " + value.GetType() + " (" + number
                    + "); give a text, a finite number, a bool, null, a list or an object");
            }
            json.Append(number);
        }

        private static void Quote(StringBuilder json, string text)
        {
            json.Append('"');
            foreach (char c in text)
            {
                if (c == '"' || c == '\\')
                {
                    json.Append('\\').Append(c);
                }
                else if (c < ' ')
                {
                    json.Append("\\u").Append(((int)c).ToString("x4", CultureInfo.InvariantCulture));
                }
                else
                {
                    json.Append(c);
                }
            }
            json.Append('"');
        }
    }
}
