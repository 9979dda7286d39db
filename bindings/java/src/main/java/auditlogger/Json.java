package auditlogger;

import java.util.Arrays;
import java.util.Iterator;
import java.util.Map;

/** Writes requests, records and configurations, for the JDK has no JSON of its own. */
final class Json {
    private Json() {}

    static String write(Object value) {
        StringBuilder out = new StringBuilder();
        write(out, value);
        return out.toString();
    }

    private static void write(StringBuilder out, Object value) {
        if (value == null || value instanceof Boolean || value instanceof Number && finite((Number) value)) {
            out.append(value);
        } else if (value instanceof CharSequence text) {
            quote(out, text);
        } else if (value instanceof Map<?, ?> map) {
            String separator = "{";
            for (Map.Entry<?, ?> entry : map.entrySet()) {
                quote(out.append(separator), String.valueOf(entry.getKey()));
                write(out.append(':'), entry.getValue());
                separator = ",";
            }
            out.append(map.isEmpty() ? "{}" : "}");
        } else if (value instanceof Iterable<?> values) {
            out.append('[');
            for (Iterator<?> items = values.iterator(); items.hasNext(); ) {
                write(out, items.next());
                out.append(items.hasNext() ? "," : "");
            }
            out.append(']');
        } else if (value instanceof Object[] values) {
            write(out, Arrays.asList(values));
        } else {
            throw new IllegalArgumentException("JSON has no " + value.getClass().getName() + " (" + value
                    + "): give a Map, an Iterable, a text, a finite number, a Boolean or null");
        }
    }

    private static boolean finite(Number number) {
        return !(number instanceof Double || number instanceof Float) || Double.isFinite(number.doubleValue());
    }

    private static void quote(StringBuilder out, CharSequence text) {
        out.append('"');
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < ' ') {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        out.append('"');
    }
}
