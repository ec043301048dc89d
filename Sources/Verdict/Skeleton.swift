public import EventLog
public import Providers

/// What a worker's log knows of one request to an LLM target once it and its copies have ended: the
/// bones of its events. The judge adds what the captures say.
///
/// It carries names, not numbers, and what the configuration says of this request: the judge may
/// serve several generations, and asks no settings.
public struct Skeleton: Equatable, Sendable {
    /// What became of one copy.
    public struct Copy: Equatable, Sendable {
        /// As in its capture.
        public var shadow: UInt16
        /// The shadow's target.
        public var provider: String
        /// Nil where it was sent.
        public var dropReason: String?
        /// The copy's id; empty where it was not sent.
        public var shadowID = ""
        /// How it ended.
        public var status = DecisionEvent.SideStatus.success
        /// 0 where no answer came.
        public var httpStatus = 0
        /// From its first byte to the end of its answer, microseconds.
        public var latencyUs = 0
        /// `log_shadow_response`.
        public var logsResponse = false
        /// What its answer is pinned to.
        public var tags = PinnedTags()

        /// A copy for the shadow `shadow`, whose target is `provider`.
        public init(shadow: UInt16, provider: String) {
            self.shadow = shadow
            self.provider = provider
        }
    }

    /// What ties it to its captures; never 0.
    public var pair: UInt64
    /// When the request came, milliseconds since 1970.
    public var timestampMs: UInt64
    /// As in the access log.
    public var requestID = ""
    /// The route's name.
    public var route = ""
    /// The primary's target.
    public var provider = ""
    /// Which configuration served it.
    public var configVersion = ""
    /// The request's method.
    public var method = ""
    /// The request target as it came, query included.
    public var target = ""
    /// What the policies decided, and why, in a word.
    public var verdict = DecisionEvent.Verdict.allow
    public var reasonCode = "ok"
    /// The policy that decided, and all that had something to say.
    public var policy: String?
    public var policies: [String] = []
    /// Of the whole exchange with the user, microseconds.
    public var latencyUs = 0
    /// How it ended.
    public var status = DecisionEvent.SideStatus.success
    /// 0 where no answer came.
    public var httpStatus = 0
    /// Bytes of both bodies.
    public var requestBytes = 0
    public var answerBytes = 0
    /// `log_primary_response`.
    public var logsResponse = false
    /// What the primary's answer is pinned to.
    public var tags = PinnedTags()
    /// `compare_metrics`.
    public var metrics = CompareMetrics.all
    /// One for each shadow that the request was chosen for.
    public var copies: [Copy] = []

    /// Of a request that came at `timestampMs`, milliseconds since 1970.
    public init(pair: UInt64, timestampMs: UInt64) {
        self.pair = pair
        self.timestampMs = timestampMs
    }

    // MARK: The binary form

    /// No event begins with it: those begin with a brace.
    private static let mark: UInt8 = 0x53

    /// Whether a ring's record is a skeleton.
    public static func isOne(_ record: UnsafeRawBufferPointer) -> Bool { record.first == mark }

    /// Its binary form; texts are cut at `VerdictLimits.skeletonTextBytesMax`.
    public var bytes: [UInt8] {
        var writer = ByteWriter()
        writer.put(Self.mark)
        writer.put(pair)
        writer.put(timestampMs)
        for text in [requestID, route, provider, configVersion, method, target, reasonCode] {
            writer.put(text)
        }
        writer.put(UInt8(verdict.rawValue))
        writer.put(policy ?? "")
        writer.put(UInt8(clamping: policies.count))
        for name in policies.prefix(255) { writer.put(name) }
        for number in [latencyUs, httpStatus, requestBytes, answerBytes] {
            writer.put(UInt64(clamping: number))
        }
        writer.put(UInt8(status.rawValue))
        writer.put(UInt8(logsResponse ? 1 : 0))
        writer.put(tags)
        writer.put(metrics.rawValue)
        writer.put(UInt8(min(copies.count, VerdictLimits.copiesMax)))
        for copy in copies.prefix(VerdictLimits.copiesMax) {
            writer.put(UInt64(copy.shadow))
            writer.put(copy.provider)
            writer.put(copy.dropReason ?? "")
            writer.put(copy.shadowID)
            writer.put(UInt8(copy.status.rawValue))
            writer.put(UInt64(clamping: copy.httpStatus))
            writer.put(UInt64(clamping: copy.latencyUs))
            writer.put(UInt8(copy.logsResponse ? 1 : 0))
            writer.put(copy.tags)
        }
        return writer.bytes
    }

    /// Reads the binary form; nil where it is none.
    public init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count <= VerdictLimits.skeletonBytesMax else { return nil }
        var reader = ByteReader(bytes)
        guard reader.byte() == Self.mark, let pair = reader.word(), pair != 0,
            let timestampMs = reader.word()
        else { return nil }
        self.init(pair: pair, timestampMs: timestampMs)
        requestID = reader.text()
        route = reader.text()
        provider = reader.text()
        configVersion = reader.text()
        method = reader.text()
        target = reader.text()
        reasonCode = reader.text()
        guard let verdict = reader.byte().flatMap({ DecisionEvent.Verdict(rawValue: Int($0)) })
        else { return nil }
        self.verdict = verdict
        policy = reader.name()
        for _ in 0..<(reader.byte() ?? 0) { policies.append(reader.text()) }
        latencyUs = reader.number()
        httpStatus = reader.number()
        requestBytes = reader.number()
        answerBytes = reader.number()
        guard let status = reader.status() else { return nil }
        self.status = status
        logsResponse = reader.byte() == 1
        tags = reader.tags()
        metrics = CompareMetrics(rawValue: reader.byte() ?? 0)
        let count = Int(reader.byte() ?? 0)
        guard count <= VerdictLimits.copiesMax else { return nil }
        for _ in 0..<count {
            var copy = Copy(
                shadow: UInt16(truncatingIfNeeded: reader.number()), provider: reader.text())
            copy.dropReason = reader.name()
            copy.shadowID = reader.text()
            guard let status = reader.status() else { return nil }
            copy.status = status
            copy.httpStatus = reader.number()
            copy.latencyUs = reader.number()
            copy.logsResponse = reader.byte() == 1
            copy.tags = reader.tags()
            copies.append(copy)
        }
        guard reader.isAtEnd else { return nil }
    }
}

/// Numbers and texts one behind the other.
private struct ByteWriter {
    var bytes: [UInt8] = []

    init() { bytes.reserveCapacity(1_024) }

    mutating func put(_ byte: UInt8) { bytes.append(byte) }

    mutating func put(_ word: UInt64) {
        withUnsafeBytes(of: word) { bytes.append(contentsOf: $0) }
    }

    mutating func put(_ tags: PinnedTags) {
        put(tags.modelRevision)
        put(tags.indexHash)
    }

    mutating func put(_ text: String) {
        let cut = text.utf8.prefix(VerdictLimits.skeletonTextBytesMax)
        put(UInt64(cut.count))
        bytes.append(contentsOf: cut)
    }
}

/// Reads what `ByteWriter` wrote; what is not there any more reads as nothing, and is found at the
/// end.
private struct ByteReader {
    private let bytes: UnsafeRawBufferPointer
    private var place = 0
    private var isShort = false

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    /// Whether everything was there, and nothing is left.
    var isAtEnd: Bool { !isShort && place == bytes.count }

    mutating func tags() -> PinnedTags {
        var tags = PinnedTags()
        tags.modelRevision = text()
        tags.indexHash = text()
        return tags
    }

    mutating func byte() -> UInt8? {
        guard place < bytes.count else {
            isShort = true
            return nil
        }
        defer { place += 1 }
        return bytes[place]
    }

    mutating func word() -> UInt64? {
        guard bytes.count - place >= 8 else {
            isShort = true
            return nil
        }
        defer { place += 8 }
        return bytes.loadUnaligned(fromByteOffset: place, as: UInt64.self)
    }

    mutating func number() -> Int { Int(clamping: word() ?? 0) }

    mutating func text() -> String {
        let count = number()
        guard count <= VerdictLimits.skeletonTextBytesMax, count <= bytes.count - place else {
            isShort = true
            return ""
        }
        defer { place += count }
        return String(decoding: bytes[place..<place + count], as: UTF8.self)
    }

    /// A text that is nothing where it is empty.
    mutating func name() -> String? {
        let text = text()
        return text.isEmpty ? nil : text
    }

    mutating func status() -> DecisionEvent.SideStatus? {
        byte().flatMap { DecisionEvent.SideStatus(rawValue: Int($0)) }
    }
}

extension DecisionEvent.Side {
    /// Says what the answer is pinned to, where the answer itself did not.
    public mutating func pin(_ tags: PinnedTags) {
        modelRevision = modelRevision ?? SideReading.word(tags.modelRevision)
        indexHash = indexHash ?? SideReading.word(tags.indexHash)
    }
}
