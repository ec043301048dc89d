public import HTTP
public import Providers

/// How the target of an LLM provider is spoken to.
public struct ProviderSettings: Sendable, Equatable {
    /// `secret_key_ref`: where its key comes from.
    public enum KeySource: Sendable, Equatable {
        /// A variable of the gateway's environment.
        case variable(String)
        /// A file that holds the key and nothing else.
        case file(String)

        /// Its name among the files that the supervisor hands to other processes; no file that can
        /// be opened has a variable's.
        public var keyFileName: String {
            switch self {
            case .variable(let name): "\u{0}" + name
            case .file(let path): path
            }
        }
    }

    /// The API that it speaks.
    public var dialect: Dialect
    /// Nil passes on what the client brings.
    public var keySource: KeySource?
    /// In processes that send requests, where there is one: the key. Nil everywhere else.
    public var key: ProviderKey?

    /// `annotate_provider`: chat answers tell who gave them.
    public var annotates = true

    /// `max_tokens`: what a translated request asks for where the client's sets no bound and the
    /// API asks for one.
    public var maxTokens = Self.maxTokensDefault
    /// Where the configuration says nothing.
    public static let maxTokensDefault = 4_096

    /// `azure`: paths and key as Azure OpenAI wants them; nil for everybody else.
    public var azure: AzureSettings?

    /// What they tell.
    public var name: String { dialect == .openAI ? "openai" : "anthropic" }

    /// A target without a key of its own.
    public init(_ dialect: Dialect) { self.dialect = dialect }

    /// A key is asked for and not there: nothing can be sent.
    public var lacksKey: Bool { keySource != nil && key == nil }

    /// The field line that carries the key, with its CRLF; empty without one.
    public var keyLine: String {
        guard let key else { return "" }
        if azure != nil { return "api-key: \(key.text)\r\n" }
        switch dialect {
        case .openAI: return "Authorization: Bearer \(key.text)\r\n"
        case .anthropic: return "x-api-key: \(key.text)\r\n"
        }
    }
}

/// One deployment of Azure OpenAI: its requests name it in their path, and the version of the API
/// in their query (Azure OpenAI REST API, data plane).
public struct AzureSettings: Sendable, Equatable {
    /// The model's deployment, and the version as a date.
    public var deployment: String
    public var apiVersion: String

    /// A deployment of this name, asked in this version.
    public init(deployment: String, apiVersion: String) {
        self.deployment = deployment
        self.apiVersion = apiVersion
    }

    /// What stands before and behind the name of what is asked (`Inference.pathEnd`), but for
    /// responses.
    public var pathStart: String { "/openai/deployments/\(deployment)" }
    public var query: String { "?api-version=\(apiVersion)" }

    /// Appends path and query of what is asked, of the bytes of `pathStart` and `query`. Responses
    /// are asked of the resource, and name the deployment as their model.
    public static func write(
        _ asked: Inference, pathStart: UnsafeRawBufferPointer, query: UnsafeRawBufferPointer,
        to writer: inout HeadWriter
    ) {
        if asked == .responses { writer.append("/openai") } else { writer.append(pathStart) }
        writer.append(asked.pathEnd)
        writer.append(query)
    }
}

/// A provider's key. It describes itself as nothing, so that no message can show it.
public struct ProviderKey: Sendable, Equatable, CustomStringConvertible {
    /// The key.
    public let text: String

    /// Reads what a file or variable holds, without the white space around it; nil where that is
    /// nothing, or cannot stand in a field.
    public init?(_ bytes: [UInt8]) {
        let kept = bytes.drop { $0 <= 0x20 }
        let end = (kept.lastIndex { $0 > 0x20 } ?? kept.startIndex - 1) + 1
        let inner = kept[..<end]
        guard !inner.isEmpty, inner.count <= UpstreamLimits.keyBytesMax,
            inner.allSatisfy({ $0 > 0x20 && $0 < 0x7F })
        else { return nil }
        text = String(decoding: inner, as: UTF8.self)
    }

    public var description: String { "a key" }
}
