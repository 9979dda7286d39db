using System;
using System.Collections;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
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

        /// <summary>The members of a dictionary, or of an object of an anonymous type.</summary>
        internal static Dictionary<string, object> Members(object value)
        {
            if (value is IDictionary dictionary)
            {
                return dictionary.Keys.Cast<object>().ToDictionary(
                    key => Convert.ToString(key, CultureInfo.InvariantCulture), key => dictionary[key]);
            }
            return value.GetType().GetProperties().ToDictionary(
                property => property.Name, property => property.GetValue(value, null));
        }

        private static void Write(StringBuilder json, object value)
        {
            if (value == null)
            {
                json.Append("null");
            }
            else if (value is string text)
            {
                Quote(json, text);
            }
            else if (value is bool truth)
            {
                json.Append(truth ? "true" : "false");
            }
            else if (value is IEnumerable && !(value is IDictionary))
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
                string separator = "{";
                foreach (KeyValuePair<string, object> member in Members(value))
                {
                    Quote(json.Append(separator), member.Key);
                    Write(json.Append(':'), member.Value);
                    separator = ",";
                }
                json.Append(separator == "{" ? "{}" : "}");
            }
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
