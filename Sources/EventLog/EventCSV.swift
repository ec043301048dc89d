import CLinux

/// Records as comma-separated values (RFC 4180): a line of titles, CRLF line ends, UTF-8 with the
/// mark that has spreadsheets take it for that.
///
/// Text that a spreadsheet would take for a formula is given an apostrophe in front: names of
/// models and tools are a client's words.
enum EventCSV {
    /// A cell of more characters is cut: spreadsheets take 32,767 at most, and break the row
    /// otherwise.
    private static let cellBytesMax = 32_000

    /// The columns: title, member, and the path within it. New ones go to the end.
    static let columns: [(title: StaticString, member: StaticString, path: [StaticString])] = [
        ("seq", "seq", []),
        ("timestamp", "timestamp", []),
        ("id", "id", []),
        ("event_type", "event_type", []),
        ("verdict", "verdict", []),
        ("reason_code", "reason_code", []),
        ("policy", "policy", []),
        ("model", "model", []),
        ("provider", "provider", []),
        ("route", "route", []),
        ("request_id", "request_id", []),
        ("shadow_id", "shadow_id", []),
        ("config_version", "config_version", []),
        ("http_status", "http_status", []),
        ("latency_ms", "latency_ms", []),
        ("ttft_ms", "ttft_ms", []),
        ("request_bytes", "bytes", ["request"]),
        ("answer_bytes", "bytes", ["answer"]),
        ("finish_reason", "finish_reason", []),
        ("drop_reason", "drop_reason", []),
        ("translation_loss", "translation_loss", []),
        ("primary_provider", "traffic_mirror", ["primary", "provider"]),
        ("primary_model", "traffic_mirror", ["primary", "model"]),
        ("primary_latency_ms", "traffic_mirror", ["primary", "latency_ms"]),
        ("primary_input_tokens", "traffic_mirror", ["primary", "input_tokens"]),
        ("primary_output_tokens", "traffic_mirror", ["primary", "output_tokens"]),
        ("primary_status", "traffic_mirror", ["primary", "status"]),
        ("shadow_provider", "traffic_mirror", ["shadow", "provider"]),
        ("shadow_model", "traffic_mirror", ["shadow", "model"]),
        ("shadow_latency_ms", "traffic_mirror", ["shadow", "latency_ms"]),
        ("shadow_input_tokens", "traffic_mirror", ["shadow", "input_tokens"]),
        ("shadow_output_tokens", "traffic_mirror", ["shadow", "output_tokens"]),
        ("shadow_status", "traffic_mirror", ["shadow", "status"]),
        ("shadow_http_status", "shadow", ["http_status"]),
        ("latency_diff_ms", "traffic_mirror", ["comparison", "latency_diff_ms"]),
        ("token_count_diff", "traffic_mirror", ["comparison", "token_count_diff"]),
        ("content_similarity", "traffic_mirror", ["comparison", "content_similarity"]),
        ("embedder", "embedder", []),
    ]

    static func appendTitles(to buffer: inout [UInt8]) {
        buffer.append(contentsOf: [0xEF, 0xBB, 0xBF])
        for (index, column) in columns.enumerated() {
            if index > 0 { buffer.append(UInt8(ascii: ",")) }
            buffer.append(contentsOf: "\(column.title)".utf8)
        }
        buffer.append(contentsOf: [0x0D, 0x0A])
    }

    static func append(_ record: UnsafeRawBufferPointer, to buffer: inout [UInt8]) {
        // Each top-level member is looked up once, the nested ones in it.
        var top: [(name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer)] = []
        var members = JSONMembers(record)
        while let member = members.next() { top.append(member) }
        for (index, column) in columns.enumerated() {
            if index > 0 { buffer.append(UInt8(ascii: ",")) }
            guard let first = top.first(where: { JSONText.equals($0.name, column.member) }),
                let value = JSONMembers.value(path: column.path, in: first.value)
            else { continue }
            appendCell(value, to: &buffer)
        }
        buffer.append(contentsOf: [0x0D, 0x0A])
    }

    private static func appendCell(
        _ value: UnsafeRawBufferPointer, to buffer: inout [UInt8]
    ) {
        if JSONText.equals(value, "null") { return }
        if isNumber(value) {
            buffer.append(contentsOf: value)
            return
        }
        if value.first == 0x22, value.count >= 2, value.count <= cellBytesMax,
            memchr(value.baseAddress!, 0x5C, value.count) == nil
        {
            // Nothing to decode.
            return appendText(
                UnsafeRawBufferPointer(rebasing: value[1..<value.count - 1]), to: &buffer)
        }
        var text: [UInt8] = []
        if value.first == UInt8(ascii: "[") {
            for (index, element) in JSONMembers.elements(value).enumerated() {
                if index > 0 { text.append(contentsOf: "; ".utf8) }
                JSONText.decode(element, into: &text)
            }
        } else {
            JSONText.decode(value, into: &text)
        }
        if text.count > cellBytesMax {
            var end = cellBytesMax
            while end > 0, text[end] & 0xC0 == 0x80 { end -= 1 }
            text.removeSubrange(end...)
            text.append(contentsOf: "…".utf8)
        }
        text.withUnsafeBytes { appendText($0, to: &buffer) }
    }

    private static func appendText(_ text: UnsafeRawBufferPointer, to buffer: inout [UInt8]) {
        let isFormula = looksLikeFormula(text)
        let needsQuotes = text.contains {
            $0 == UInt8(ascii: ",") || $0 == 0x22 || $0 == 0x0A || $0 == 0x0D || $0 == 0x3B
        }
        let hasSpace = text.first == 0x20 || text.last == 0x20
        guard needsQuotes || hasSpace || isFormula else {
            buffer.append(contentsOf: text)
            return
        }
        buffer.append(0x22)
        if isFormula { buffer.append(UInt8(ascii: "'")) }
        for byte in text {
            if byte == 0x22 { buffer.append(0x22) }
            buffer.append(byte)
        }
        buffer.append(0x22)
    }

    /// Whether a spreadsheet might compute the text (OWASP, "CSV Injection"): it begins, behind
    /// white space, with one of `= + - @`, their full-width forms, or a control character.
    private static func looksLikeFormula(_ text: UnsafeRawBufferPointer) -> Bool {
        var rest = text[...]
        while let byte = rest.first, byte == 0x20 { rest = rest.dropFirst() }
        switch rest.first {
        case UInt8(ascii: "="), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "@"): return true
        case let byte? where byte < 0x20: return true
        case 0xEF:
            let fullWidth = ["＝", "＋", "－", "＠"]
            return fullWidth.contains { rest.starts(with: $0.utf8) }
        default: return false
        }
    }

    /// A number as JSON writes it: nothing that a spreadsheet could take for anything else.
    private static func isNumber(_ value: UnsafeRawBufferPointer) -> Bool {
        guard let first = value.first, first == UInt8(ascii: "-") || (0x30...0x39).contains(first),
            value.count <= 24
        else { return false }
        return value.dropFirst().allSatisfy {
            (0x30...0x39).contains($0) || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "e")
                || $0 == UInt8(ascii: "E") || $0 == UInt8(ascii: "+") || $0 == UInt8(ascii: "-")
        }
    }
}
