/// Server-sent events as the APIs write them (WHATWG HTML, 9.2 "Server-sent events").
public enum EventStream {
    /// Appends one event; `data` may hold several lines.
    public static func append(
        event: String? = nil, data: some Collection<UInt8>, to bytes: inout [UInt8]
    ) {
        if let event {
            bytes.append(contentsOf: "event: ".utf8)
            bytes.append(contentsOf: event.utf8)
            bytes.append(0x0A)
        }
        bytes.append(contentsOf: "data: ".utf8)
        guard data.contains(where: { $0 == 0x0A || $0 == 0x0D }) else {
            bytes.append(contentsOf: data)
            bytes.append(contentsOf: [0x0A, 0x0A])
            return
        }
        var followsCR = false
        for byte in data {
            // Each of CR, LF and CRLF would end the line, and the rest be taken for a field.
            switch byte {
            case 0x0A where followsCR: break
            case 0x0A, 0x0D: bytes.append(contentsOf: "\ndata: ".utf8)
            default: bytes.append(byte)
            }
            followsCR = byte == 0x0D
        }
        bytes.append(contentsOf: [0x0A, 0x0A])
    }

    /// Appends a comment of one line, which clients pass over: it keeps a connection alive.
    public static func append(comment: String, to bytes: inout [UInt8]) {
        bytes.append(contentsOf: ": ".utf8)
        bytes.append(contentsOf: comment.utf8.lazy.filter { $0 != 0x0A && $0 != 0x0D })
        bytes.append(contentsOf: [0x0A, 0x0A])
    }
}

/// What one step of `EventStreamReader.next` brought.
public enum EventStreamStep: Equatable, Sendable {
    /// An event is whole: `name` and `data` hold it until the next step.
    case event
    /// A comment line came; `comment` holds it until the next step.
    case comment
    /// Everything was consumed.
    case needMore
    /// A line or an event is longer than allowed; nothing further can be read.
    case tooLong
}

/// An incremental reader of server-sent events, whose input may be split at any byte.
///
/// Lines end in LF, CR or CRLF; a byte order mark at the start is passed over; several lines of
/// data are joined by LF; an event without data is none; what the end of the stream cuts off is no
/// event either. Memory is bounded by `Limits.eventLineBytesMax` and `Limits.eventDataBytesMax`.
public struct EventStreamReader {
    private enum State { case line, afterCR, failed }

    /// The event's type; empty where it had none, which means `message`.
    public private(set) var name: [UInt8] = []
    /// The event's data.
    public private(set) var data: [UInt8] = []
    /// The last comment, without its colon.
    public private(set) var comment: [UInt8] = []
    /// The last event id that the stream set.
    public private(set) var lastEventID: [UInt8] = []

    private var state = State.line
    private var line: [UInt8] = []
    private var hasData = false
    private var isFirstLine = true
    private var isFresh = true
    private let lineBytesMax: Int
    private let dataBytesMax: Int

    /// A reader that stands at a stream's first byte.
    public init(
        lineBytesMax: Int = Limits.eventLineBytesMax, dataBytesMax: Int = Limits.eventDataBytesMax
    ) {
        self.lineBytesMax = lineBytesMax
        self.dataBytesMax = dataBytesMax
    }

    /// True where the stream may end without cutting anything off: nothing of an event has come.
    public var isBetweenEvents: Bool { line.isEmpty && !hasData && (isFresh || name.isEmpty) }

    /// Goes on in `bytes` from `position`, which it advances, up to the next event or comment.
    public mutating func next(
        _ bytes: UnsafeRawBufferPointer, _ position: inout Int
    ) -> EventStreamStep {
        if state == .failed { return .tooLong }
        if isFresh {
            // What the last step told is over.
            name.removeAll(keepingCapacity: true)
            data.removeAll(keepingCapacity: true)
            hasData = false
            isFresh = false
        }
        while position < bytes.count {
            if state == .afterCR {
                state = .line
                if bytes[position] == 0x0A {
                    position += 1
                    continue
                }
            }
            let rest = bytes[position...]
            guard let end = rest.firstIndex(where: { $0 == 0x0A || $0 == 0x0D }) else {
                position = bytes.count
                return keep(rest) ? .needMore : fail()
            }
            guard keep(rest[..<end]) else { return fail() }
            if bytes[end] == 0x0D { state = .afterCR }
            position = end + 1
            if let step = endLine() { return step }
        }
        return .needMore
    }

    private mutating func keep(_ bytes: Slice<UnsafeRawBufferPointer>) -> Bool {
        guard line.count + bytes.count <= lineBytesMax else { return false }
        line.append(contentsOf: bytes)
        return true
    }

    private mutating func fail() -> EventStreamStep {
        state = .failed
        line = []
        return .tooLong
    }

    private mutating func endLine() -> EventStreamStep? {
        defer { line.removeAll(keepingCapacity: true) }
        if isFirstLine {
            isFirstLine = false
            if line.starts(with: [0xEF, 0xBB, 0xBF]) { line.removeFirst(3) }
        }
        if line.isEmpty {
            guard hasData else {
                name.removeAll(keepingCapacity: true)
                return nil
            }
            isFresh = true
            return .event
        }
        let colon = line.firstIndex(of: UInt8(ascii: ":")) ?? line.endIndex
        if colon == line.startIndex {
            comment = Array(line.dropFirst())
            return .comment
        }
        var value = line[min(colon + 1, line.endIndex)...]
        if value.first == 0x20 { value = value.dropFirst() }
        return take(field: line[..<colon], value)
    }

    private mutating func take(
        field: ArraySlice<UInt8>, _ value: ArraySlice<UInt8>
    ) -> EventStreamStep? {
        if field.elementsEqual("data".utf8) {
            guard data.count + value.count + 1 <= dataBytesMax else { return fail() }
            if hasData { data.append(0x0A) }
            data.append(contentsOf: value)
            hasData = true
        } else if field.elementsEqual("event".utf8) {
            name.removeAll(keepingCapacity: true)
            name.append(contentsOf: value)
        } else if field.elementsEqual("id".utf8), !value.contains(0) {
            lastEventID = Array(value)
        }
        return nil
    }
}
