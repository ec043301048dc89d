public import HTTP

/// What a request asks a model for, told by the end of its path: a base path may put anything
/// before it. Each is a POST that reads: it may be asked twice.
public enum Inference: UInt8, Sendable, CaseIterable, BitwiseCopyable {
    /// `…/chat/completions`.
    case chat
    /// `…/completions`, the older form.
    case completions
    /// `…/responses`.
    case responses
    /// `…/embeddings`.
    case embeddings
    /// `…/messages`.
    case messages

    /// Reads a path, whose query does not count. Nil for all others, among them messages that are
    /// put into a thread: those are writes.
    @inlinable
    public init?(path: UnsafeRawBufferPointer) {
        var end = 0
        while end < path.count, path[end] != 0x3F { end += 1 }
        // By the last byte: most paths end in another.
        guard end > 0, path[end - 1] == 0x73 else { return nil }
        self.init(plain: UnsafeRawBufferPointer(rebasing: path[..<end]))
    }

    /// What the path of a parsed head asks for, whatever its method; `bytes` is what it was parsed
    /// from.
    @inlinable
    public init?(_ head: RequestHead, _ bytes: UnsafeRawPointer) {
        self.init(
            path: UnsafeRawBufferPointer(
                start: bytes + head.path.start, count: Int(head.path.count)))
    }

    @usableFromInline
    init?(plain path: UnsafeRawBufferPointer) {
        // Chat stands before the form whose end is the same.
        guard let found = Self.allCases.first(where: { Self.ends(path, with: $0.pathEnd) }) else {
            return nil
        }
        if found == .messages {
            let parent = path.dropLast(found.pathEnd.utf8CodeUnitCount)
            if let slash = parent.lastIndex(of: 0x2F) {
                let above = UnsafeRawBufferPointer(rebasing: parent[..<slash])
                if Self.ends(above, with: "/threads") { return nil }
            }
        }
        self = found
    }

    /// Whether a POST to `path`, whose query does not count, only reads, though it asks no model.
    public static func isReading(path: UnsafeRawBufferPointer) -> Bool {
        let plain = UnsafeRawBufferPointer(rebasing: path.prefix { $0 != 0x3F })
        let ends: [StaticString] = ["/count_tokens", "/moderations", "/rerank", "/tokenize"]
        return ends.contains { Self.ends(plain, with: $0) }
    }

    private static func ends(_ path: UnsafeRawBufferPointer, with end: StaticString) -> Bool {
        path.count >= end.utf8CodeUnitCount
            && path.suffix(end.utf8CodeUnitCount).elementsEqual(
                UnsafeBufferPointer(start: end.utf8Start, count: end.utf8CodeUnitCount))
    }

    /// How its path ends.
    public var pathEnd: StaticString {
        switch self {
        case .chat: "/chat/completions"
        case .completions: "/completions"
        case .responses: "/responses"
        case .embeddings: "/embeddings"
        case .messages: "/messages"
        }
    }

    /// The API that has it.
    public var dialect: Dialect { self == .messages ? .anthropic : .openAI }

    /// What asks for the same in the other API; nil where nothing does.
    public var counterpart: Inference? {
        switch self {
        case .chat: .messages
        case .messages: .chat
        case .completions, .responses, .embeddings: nil
        }
    }
}
