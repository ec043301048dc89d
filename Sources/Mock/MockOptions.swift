public import CoreLoop
public import Providers

/// What a stand-in is and how it behaves.
public struct MockOptions: Sendable {
    /// Whose API it speaks.
    public var dialect: Dialect
    /// Where it listens; port 0 takes a free one.
    public var listen: SocketAddress
    /// Milliseconds before an answer, or before a stream's first event.
    public var latencyMs = 0.0
    /// Tokens in a second, of an answer whole or streamed; 0 for all at once.
    public var tokensPerSecond = 0.0
    /// Another seed gives other words to the same prompts.
    public var seed: UInt64 = 1
    /// The key that requests must carry; nil takes any, but not none.
    public var key: String?
    /// Requests and tokens in a minute that the rate-limit headers tell and 429 enforces.
    public var requestsPerMinute = 10_000
    public var tokensPerMinute = 2_000_000

    /// The defaults for a dialect.
    public init(_ dialect: Dialect, listen: SocketAddress) {
        self.dialect = dialect
        self.listen = listen
    }
}
