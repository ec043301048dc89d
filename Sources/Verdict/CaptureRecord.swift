public import HTTP
public import Providers

/// What one side of a pair was asked and what it answered, as it was captured in passing: the way
/// from a worker or a shadow process to the judge, through a `RecordRing`.
///
/// Binary, of one machine: a head of `headBytes`, then the five parts one behind the other. A
/// producer fills in a `CaptureHead` and writes with a `CaptureWriter`; `init?(_:)` reads, and
/// trusts no producer: a record whose lengths or words cannot be is none.
public struct CaptureRecord {
    /// Which side it is of.
    public enum Kind: UInt8, Sendable {
        /// The user's, from a worker; the copy's, from a shadow process.
        case primary = 1, shadow = 2
    }

    /// What a record consists of behind its head, in this order.
    public enum Part: Int, CaseIterable, Sendable {
        /// The model's name as it was sent, UTF-8; empty where there is none.
        case model
        /// What the request's translation lost: `TranslationLoss.text`, each ended by a newline.
        case losses
        /// Field lines of the answer's head as they came, each with its CRLF: those that
        /// `CaptureFields.isKept` names.
        case fields
        /// The request's body as it was sent, or, where it was translated for the user's path, as
        /// the client sent it.
        case request
        /// The answer's payload as the upstream sent it, without chunk framing.
        case answer

        /// The longest that it may be, bytes.
        public var byteCountMax: Int {
            switch self {
            case .model: VerdictLimits.captureModelBytesMax
            case .losses: VerdictLimits.captureLossBytesMax
            case .fields: VerdictLimits.captureFieldBytesMax
            case .request, .answer: VerdictLimits.captureBodyBytesMax
            }
        }
    }

    /// Bytes in front of the parts.
    public static let headBytes = 64

    /// What is said of the exchange.
    public let head: CaptureHead
    private let bytes: UnsafeRawBufferPointer
    private let lengths: InlineArray<5, Int>

    /// The bytes of one part; good as long as those that the record was read from.
    public subscript(_ part: Part) -> UnsafeRawBufferPointer {
        var start = Self.headBytes
        for before in 0..<part.rawValue { start += lengths[before] }
        return UnsafeRawBufferPointer(rebasing: bytes[start..<start + lengths[part.rawValue]])
    }

    /// Reads a record, which stays where it is; nil where the bytes are none.
    public init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= Self.headBytes, let head = CaptureHead(bytes) else { return nil }
        var lengths = InlineArray<5, Int>(repeating: 0)
        var total = Self.headBytes
        for part in Part.allCases {
            let length = Int(
                bytes.loadUnaligned(
                    fromByteOffset: CaptureHead.Place.lengths + 4 * part.rawValue, as: UInt32.self))
            guard length <= part.byteCountMax else { return nil }
            lengths[part.rawValue] = length
            total += length
        }
        guard total == bytes.count else { return nil }
        self.head = head
        self.bytes = bytes
        self.lengths = lengths
    }

    /// Bytes of a record whose parts are so long.
    public static func byteCount(
        model: Int = 0, losses: Int = 0, fields: Int = 0, request: Int, answer: Int
    ) -> Int {
        headBytes + model + losses + fields + request + answer
    }
}

/// What a capture says of its exchange besides texts and bodies.
public struct CaptureHead: Equatable, Sendable {
    /// Facts of a capture.
    public struct Flags: OptionSet, Equatable, Sendable {
        /// One bit for each of them.
        public let rawValue: UInt8
        /// Those whose bits are set.
        public init(rawValue: UInt8) { self.rawValue = rawValue }
        /// The answer is an event stream, by its content type.
        public static let isStreamed = Flags(rawValue: 1 << 0)
        /// The answer came to the end that its framing promised.
        public static let isWhole = Flags(rawValue: 1 << 1)
        /// There was more of the request, or of the answer, than is kept.
        public static let requestCut = Flags(rawValue: 1 << 2)
        public static let answerCut = Flags(rawValue: 1 << 3)
        /// The answer is compressed: it cannot be read.
        public static let isEncoded = Flags(rawValue: 1 << 4)
        /// The answer was longer than is read, and given up for it.
        public static let isTooLong = Flags(rawValue: 1 << 5)
    }

    enum Place {
        static let magic = 0
        static let pair = 8
        static let firstByteUs = 16
        static let shadow = 20
        static let status = 22
        static let kind = 24
        static let requestDialect = 25
        static let answerDialect = 26
        static let flags = 27
        static let lengths = 32
    }

    /// "UMBRACP1" in memory.
    private static let magic: UInt64 = 0x3150_4341_5242_4D55

    /// Which side it is of.
    public var kind: CaptureRecord.Kind
    /// What ties the two sides and the request's log record together; never 0.
    public var pair: UInt64
    /// Index in `GatewaySettings.shadows` of the generation that made it; 0 for the primary.
    public var shadow: UInt16 = 0
    /// The languages of the two bodies: they differ where the user's path is translated.
    public var requestDialect: Dialect
    public var answerDialect: Dialect
    /// What is true of it.
    public var flags: Flags = []
    /// The answer's status; 0 where none came.
    public var status: UInt16 = 0
    /// From the moment that the request's first byte was sent until the first byte of the answer's
    /// content, microseconds; 0 where none came.
    public var firstByteUs: UInt32 = 0

    /// A side of `pair`, both of whose bodies are in `dialect`.
    public init(_ kind: CaptureRecord.Kind, pair: UInt64, dialect: Dialect) {
        self.kind = kind
        self.pair = pair
        requestDialect = dialect
        answerDialect = dialect
    }

    fileprivate init?(_ bytes: UnsafeRawBufferPointer) {
        func byte(_ place: Int) -> UInt8 { bytes[place] }
        let pair = bytes.loadUnaligned(fromByteOffset: Place.pair, as: UInt64.self)
        guard bytes.loadUnaligned(fromByteOffset: Place.magic, as: UInt64.self) == Self.magic,
            pair != 0, let kind = CaptureRecord.Kind(rawValue: byte(Place.kind)),
            let request = Dialect(code: byte(Place.requestDialect)),
            let answer = Dialect(code: byte(Place.answerDialect))
        else { return nil }
        self.init(kind, pair: pair, dialect: request)
        answerDialect = answer
        flags = Flags(rawValue: byte(Place.flags))
        shadow = bytes.loadUnaligned(fromByteOffset: Place.shadow, as: UInt16.self)
        status = bytes.loadUnaligned(fromByteOffset: Place.status, as: UInt16.self)
        firstByteUs = bytes.loadUnaligned(fromByteOffset: Place.firstByteUs, as: UInt32.self)
    }

    fileprivate func write(to memory: UnsafeMutableRawPointer) {
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: CaptureRecord.headBytes)
        memory.storeBytes(of: Self.magic, toByteOffset: Place.magic, as: UInt64.self)
        memory.storeBytes(of: pair, toByteOffset: Place.pair, as: UInt64.self)
        memory.storeBytes(of: firstByteUs, toByteOffset: Place.firstByteUs, as: UInt32.self)
        memory.storeBytes(of: shadow, toByteOffset: Place.shadow, as: UInt16.self)
        memory.storeBytes(of: status, toByteOffset: Place.status, as: UInt16.self)
        memory.storeBytes(of: kind.rawValue, toByteOffset: Place.kind, as: UInt8.self)
        memory.storeBytes(
            of: requestDialect.code, toByteOffset: Place.requestDialect, as: UInt8.self)
        memory.storeBytes(of: answerDialect.code, toByteOffset: Place.answerDialect, as: UInt8.self)
        memory.storeBytes(of: flags.rawValue, toByteOffset: Place.flags, as: UInt8.self)
    }
}

/// Writes one capture into memory that it was given; nothing is allocated.
///
/// The parts in their order, each in as many pieces as it lies in; one that is not written is
/// empty. What would make a part longer than `byteCountMax`, or does not fit, is left out: bodies
/// are marked as cut, of the others the piece is missing.
public struct CaptureWriter: ~Copyable {
    private let memory: UnsafeMutableRawBufferPointer
    private var head: CaptureHead
    private var part = CaptureRecord.Part.model
    private var partBytes = 0
    /// Bytes written so far, the head among them.
    public private(set) var count = CaptureRecord.headBytes

    /// Writes into `memory`, which has `CaptureRecord.headBytes` at least.
    public init(_ memory: UnsafeMutableRawBufferPointer, _ head: CaptureHead) {
        precondition(memory.count >= CaptureRecord.headBytes)
        precondition(head.pair != 0, "0 is no pair")
        self.memory = memory
        self.head = head
        head.write(to: memory.baseAddress!)
    }

    /// Puts a piece behind what there is of `part`. Traps where a later part was begun already.
    public mutating func append(_ piece: UnsafeRawBufferPointer, to part: CaptureRecord.Part) {
        precondition(part.rawValue >= self.part.rawValue, "parts are written in their order")
        if part != self.part {
            self.part = part
            partBytes = 0
        }
        let room = min(memory.count - count, part.byteCountMax - partBytes)
        var taken = piece.count
        if taken > room {
            switch part {
            case .model, .losses, .fields: return
            case .request:
                head.flags.insert(.requestCut)
                taken = room
            case .answer:
                head.flags.insert(.answerCut)
                taken = room
            }
            let flags = head.flags.rawValue
            memory.storeBytes(of: flags, toByteOffset: CaptureHead.Place.flags, as: UInt8.self)
        }
        guard taken > 0 else { return }
        (memory.baseAddress! + count).copyMemory(from: piece.baseAddress!, byteCount: taken)
        count += taken
        partBytes += taken
        let place = CaptureHead.Place.lengths + 4 * part.rawValue
        memory.storeBytes(of: UInt32(partBytes), toByteOffset: place, as: UInt32.self)
    }

    /// As above, of a text.
    public mutating func append(_ text: String, to part: CaptureRecord.Part) {
        var copy = text
        copy.withUTF8 { append(UnsafeRawBufferPointer($0), to: part) }
    }

    /// The record.
    public var bytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: memory[..<count])
    }
}

/// The fields of an answer's head that captures keep.
public enum CaptureFields {
    /// Whether a field of this name is kept: those that tell of rate limits, when to come again,
    /// and which index was read.
    public static func isKept(_ name: UnsafeRawBufferPointer) -> Bool {
        let name = FieldText(name)
        return name.equals("retry-after") || name.equals("x-index-hash")
            || name.hasPrefix("ratelimit-") || name.hasPrefix("x-ratelimit-")
            || name.hasPrefix("anthropic-ratelimit-")
    }

    /// What an answer's head, which begins at `head`, tells of its body; calls `keep` with each
    /// line that is kept, its CRLF included.
    public static func read(
        _ fields: borrowing FieldList, of head: UnsafeRawPointer,
        keep: (UnsafeRawBufferPointer) -> Void
    ) -> CaptureHead.Flags {
        var flags: CaptureHead.Flags = []
        for index in 0..<fields.count {
            let field = fields[index]
            let name = FieldText(field.name, of: head)
            let value = FieldText(field.value, of: head)
            if field.known == .contentType {
                if value.hasPrefix("text/event-stream") { flags.insert(.isStreamed) }
            } else if name.equals("content-encoding") {
                if !value.equals("identity") { flags.insert(.isEncoded) }
            } else if isKept(name.bytes) {
                keep(FieldText(field.line, of: head).bytes)
            }
        }
        return flags
    }
}

extension Dialect {
    /// In records; 0 is none.
    var code: UInt8 { self == .openAI ? 1 : 2 }

    init?(code: UInt8) {
        switch code {
        case 1: self = .openAI
        case 2: self = .anthropic
        default: return nil
        }
    }
}
