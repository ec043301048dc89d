import CLinux

/// A head, taken apart by other code than the product's.
struct WireHead {
    var line = ""
    var fields: [(name: String, value: String)] = []
    /// All of it, for searching.
    var text = ""

    init(_ bytes: [UInt8]) {
        text = String(decoding: bytes, as: UTF8.self)
        let lines = text.components(separatedBy: "\r\n")
        line = lines[0]
        for text in lines.dropFirst() where !text.isEmpty {
            guard let colon = text.firstIndex(of: ":") else { continue }
            fields.append(
                (
                    name: text[..<colon].lowercased(),
                    value: text[text.index(after: colon)...].trimmed
                ))
        }
    }

    func values(_ name: String) -> [String] { fields.filter { $0.name == name }.map(\.value) }
    func value(_ name: String) -> String? { values(name).first }
}

extension StringProtocol {
    var trimmed: String {
        String(drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }

    func components(separatedBy separator: String) -> [String] {
        var parts: [String] = []
        var part: [UInt8] = []
        let bytes = Array(utf8)
        let mark = Array(separator.utf8)
        var index = 0
        while index < bytes.count {
            if bytes[index] == mark[0], index + mark.count <= bytes.count,
                Array(bytes[index..<index + mark.count]) == mark
            {
                parts.append(String(decoding: part, as: UTF8.self))
                part = []
                index += mark.count
            } else {
                part.append(bytes[index])
                index += 1
            }
        }
        parts.append(String(decoding: part, as: UTF8.self))
        return parts
    }
}

/// Reads the messages of one stream, one after the other, and compares their content.
struct WireReader {
    enum Framing: Equatable { case none, length(Int), chunked, untilClose }

    enum Step {
        case needMore
        /// Call `begin` before the next step.
        case head(WireHead)
        case end
        case wrong(String)
    }

    private enum Stage: Equatable {
        case head, begun, length(Int), untilClose
        case chunkSize, chunkData(Int), chunkEnd, trailers
        case ended
    }

    private var stage = Stage.head
    private var line: [UInt8] = []
    private var expected: UnsafeRawPointer?
    /// Bytes of the content so far.
    private(set) var contentBytes = 0
    private(set) var trailers = ""
    /// The bytes of a content that nothing is compared with.
    private(set) var free: [UInt8] = []

    /// Whether the stream may end here without cutting a message off.
    var isBetweenMessages: Bool { stage == .head && line.isEmpty }
    var isUntilClose: Bool { stage == .untilClose }

    mutating func begin(_ framing: Framing, content: UnsafeRawPointer?) {
        expected = content
        contentBytes = 0
        trailers = ""
        free = []
        line = []
        switch framing {
        case .none: stage = .ended
        case .length(let count): stage = count == 0 ? .ended : .length(count)
        case .chunked: stage = .chunkSize
        case .untilClose: stage = .untilClose
        }
    }

    mutating func next(_ bytes: UnsafeRawBufferPointer, _ position: inout Int) -> Step {
        while true {
            switch stage {
            case .begun: return .wrong("a head was not taken up")
            case .ended:
                stage = .head
                return .end
            case .head:
                guard takeLine(bytes, &position, endsWith: Self.headEnd) else { return .needMore }
                let head = WireHead(line)
                line = []
                stage = .begun
                return .head(head)
            case .length(let left):
                guard let count = take(left, bytes, &position) else { return wrongContent() }
                if count == 0 { return .needMore }
                stage = count == left ? .ended : .length(left - count)
            case .untilClose:
                guard let count = take(.max, bytes, &position) else { return wrongContent() }
                if count == 0 { return .needMore }
            default:
                if let step = nextChunked(bytes, &position) { return step }
            }
        }
    }

    private mutating func nextChunked(
        _ bytes: UnsafeRawBufferPointer, _ position: inout Int
    ) -> Step? {
        switch stage {
        case .chunkSize:
            guard takeLine(bytes, &position, endsWith: Self.lineEnd) else { return .needMore }
            let digits = line.dropLast(2).prefix { $0 != 0x3B }
            guard let size = Int(String(decoding: digits, as: UTF8.self), radix: 16) else {
                return .wrong("chunk size \(String(decoding: line, as: UTF8.self))")
            }
            line = []
            stage = size == 0 ? .trailers : .chunkData(size)
        case .chunkData(let left):
            guard let count = take(left, bytes, &position) else { return wrongContent() }
            if count == 0 { return .needMore }
            stage = count == left ? .chunkEnd : .chunkData(left - count)
        case .chunkEnd:
            guard takeLine(bytes, &position, endsWith: Self.lineEnd) else { return .needMore }
            guard line.count == 2 else { return .wrong("bytes behind a chunk") }
            line = []
            stage = .chunkSize
        case .trailers:
            guard takeLine(bytes, &position, endsWith: Self.lineEnd) else { return .needMore }
            let isLast = line.count == 2
            if !isLast { trailers += String(decoding: line, as: UTF8.self) }
            line = []
            if isLast { stage = .ended }
        default: break
        }
        return nil
    }

    private func wrongContent() -> Step { .wrong("content differs near byte \(contentBytes)") }

    /// Takes content; nil where it is not what is expected.
    private mutating func take(
        _ limit: Int, _ bytes: UnsafeRawBufferPointer, _ position: inout Int
    ) -> Int? {
        let count = min(limit, bytes.count - position)
        guard count > 0 else { return 0 }
        let start = bytes.baseAddress! + position
        if let expected {
            guard contentBytes + count <= Content.bodyBytesMax,
                memcmp(start, expected + contentBytes, count) == 0
            else { return nil }
        } else if free.count < 4_096 {
            free.append(contentsOf: UnsafeRawBufferPointer(start: start, count: count))
        }
        contentBytes += count
        position += count
        return count
    }

    private static let headEnd = Array("\r\n\r\n".utf8)
    private static let lineEnd = Array("\r\n".utf8)

    private mutating func takeLine(
        _ bytes: UnsafeRawBufferPointer, _ position: inout Int, endsWith end: [UInt8]
    ) -> Bool {
        while position < bytes.count {
            line.append(bytes[position])
            position += 1
            if line.last == 0x0A, line.suffix(end.count).elementsEqual(end) { return true }
        }
        return false
    }
}

/// A buffer that the peers of a world read into.
final class Scratch {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 16)
    deinit { memory.deallocate() }
}
