import CLinux
import CoreLoop

/// How records are shown.
public enum EventFormat: Sendable {
    /// One JSON array, an element a line; one object a line; columns for people; RFC 4180.
    case array, lines, table, csv
}

/// Writes records to a descriptor in one of the formats.
public struct EventPrinter: ~Copyable {
    private let fd: Int32
    private let format: EventFormat
    private var buffer: [UInt8] = []
    private var count = 0
    /// Why writing ended early: an error's number; EPIPE where the reader has gone.
    public private(set) var errorCode: Int32 = 0

    /// A printer to `fd`, which stays the caller's.
    public init(_ fd: Int32, _ format: EventFormat) {
        self.fd = fd
        self.format = format
        buffer.reserveCapacity(Limits.outputBytes + Limits.lineBytesMax)
    }

    /// What stands before the first record.
    public mutating func begin() {
        switch format {
        case .array: buffer.append(UInt8(ascii: "["))
        case .lines: break
        case .table: EventTable.appendTitles(to: &buffer)
        case .csv: EventCSV.appendTitles(to: &buffer)
        }
    }

    /// One record; false where nothing can be written any more.
    public mutating func print(_ record: UnsafeRawBufferPointer) -> Bool {
        switch format {
        case .array:
            if count > 0 { buffer.append(UInt8(ascii: ",")) }
            buffer.append(0x0A)
            buffer.append(contentsOf: record)
        case .lines:
            buffer.append(contentsOf: record)
            buffer.append(0x0A)
        case .table: EventTable.append(record, to: &buffer)
        case .csv: EventCSV.append(record, to: &buffer)
        }
        count += 1
        return buffer.count < Limits.outputBytes || flush()
    }

    /// What stands behind the last record; false where not everything was written.
    public mutating func end() -> Bool {
        if format == .array {
            if count > 0 { buffer.append(0x0A) }
            buffer.append(UInt8(ascii: "]"))
            buffer.append(0x0A)
        }
        return flush()
    }

    /// Writes what has gathered; false where that fails.
    public mutating func flush() -> Bool {
        var start = 0
        while start < buffer.count, errorCode == 0 {
            let written = buffer.withUnsafeBytes {
                write(fd, $0.baseAddress! + start, $0.count - start)
            }
            if written >= 0 {
                start += written
            } else if lastErrno != EINTR {
                errorCode = lastErrno
            }
        }
        buffer.removeAll(keepingCapacity: true)
        return errorCode == 0
    }
}

/// Columns for people.
enum EventTable {
    private struct Column {
        var title: String
        var width: Int
        var isNumber = false
        var path: [StaticString]
    }

    private static let columns: [Column] = [
        Column(title: "TIME", width: 24, path: ["timestamp"]),
        Column(title: "VERDICT", width: 8, path: ["verdict"]),
        Column(title: "REASON", width: 16, path: ["reason_code"]),
        Column(title: "MODEL", width: 20, path: ["model"]),
        Column(title: "PROVIDER", width: 12, path: ["provider"]),
        Column(title: "HTTP", width: 4, isNumber: true, path: ["http_status"]),
        Column(title: "MS", width: 9, isNumber: true, path: ["latency_ms"]),
        Column(title: "SHADOW", width: 14, path: ["traffic_mirror", "shadow", "status"]),
        Column(
            title: "DIFF MS", width: 9, isNumber: true,
            path: ["traffic_mirror", "comparison", "latency_diff_ms"]),
        Column(
            title: "TOKENS", width: 6, isNumber: true,
            path: ["traffic_mirror", "comparison", "token_count_diff"]),
        Column(
            title: "ALIKE", width: 6, isNumber: true,
            path: ["traffic_mirror", "comparison", "content_similarity"]),
    ]

    static func appendTitles(to buffer: inout [UInt8]) {
        for (index, column) in columns.enumerated() {
            if index > 0 { buffer.append(0x20) }
            pad(Array(column.title.utf8), column, index, to: &buffer)
        }
        buffer.append(0x0A)
    }

    static func append(_ record: UnsafeRawBufferPointer, to buffer: inout [UInt8]) {
        if let type = JSONMembers.value("event_type", in: record),
            !JSONText.equals(type, "\"decision\"")
        {
            return appendOwn(record, type, to: &buffer)
        }
        for (index, column) in columns.enumerated() {
            if index > 0 { buffer.append(0x20) }
            var text = Array("-".utf8)
            if let value = JSONMembers.value(path: column.path, in: record) {
                text = shown(value, column.width)
            } else if index == 7, let reason = JSONMembers.value("drop_reason", in: record) {
                text = shown(reason, column.width)
            }
            pad(text, column, index, to: &buffer)
        }
        buffer.append(0x0A)
    }

    /// A record of the log's own: its time, its type and the rest of it.
    private static func appendOwn(
        _ record: UnsafeRawBufferPointer, _ type: UnsafeRawBufferPointer, to buffer: inout [UInt8]
    ) {
        if let time = JSONMembers.value("timestamp", in: record) {
            buffer.append(contentsOf: shown(time, columns[0].width))
        }
        buffer.append(0x20)
        buffer.append(contentsOf: "[".utf8)
        buffer.append(contentsOf: shown(type, 20))
        buffer.append(contentsOf: "]".utf8)
        var members = JSONMembers(record)
        while let (name, value) = members.next() {
            let word = String(decoding: name, as: UTF8.self)
            if ["seq", "prev", "event_type", "timestamp"].contains(word) { continue }
            buffer.append(contentsOf: " \(word)=".utf8)
            buffer.append(contentsOf: shown(value, 80))
        }
        buffer.append(0x0A)
    }

    /// A value without its quotes, cut to `width` characters. Escapes stay as they are written,
    /// and what could steer a terminal becomes a question mark.
    private static func shown(_ value: UnsafeRawBufferPointer, _ width: Int) -> [UInt8] {
        var inner = value
        if value.count >= 2, value.first == 0x22 {
            inner = UnsafeRawBufferPointer(rebasing: value[1..<value.count - 1])
        }
        var text: [UInt8] = []
        var (at, characters) = (0, 0)
        while at < inner.count {
            if characters == width - 1, at + 1 < inner.count {
                text.append(contentsOf: "…".utf8)
                return text
            }
            let length = UTF8Form.length(inner, at)
            let isControl =
                inner[at] < 0x20 || inner[at] == 0x7F || length == 0
                || (length == 2 && inner[at] == 0xC2 && inner[at + 1] < 0xA0)
            if isControl {
                text.append(UInt8(ascii: "?"))
            } else {
                text.append(contentsOf: inner[at..<at + length])
            }
            at += max(1, length)
            characters += 1
        }
        return text
    }

    private static func pad(
        _ text: [UInt8], _ column: Column, _ index: Int, to buffer: inout [UInt8]
    ) {
        let width = text.count { $0 & 0xC0 != 0x80 }
        let spaces = [UInt8](repeating: 0x20, count: max(0, column.width - width))
        if column.isNumber { buffer.append(contentsOf: spaces) }
        buffer.append(contentsOf: text)
        // Nothing is padded behind the last column.
        if !column.isNumber, index + 1 < columns.count { buffer.append(contentsOf: spaces) }
    }
}
