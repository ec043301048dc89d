import Providers
import Upstream

/// What becomes of requests that ask a model, for one LLM shadow: its own model's name, its own
/// API, and the usage at a stream's end. Takes time linear in the body.
///
/// A class, so that what a shadow process keeps about a shadow stays small to copy.
final class InferenceEdit {
    /// A request as it goes to the shadow.
    struct Edited {
        /// The body in the place of the client's; nil sends that one.
        var body: [UInt8]?
        var isTranslated = false
        /// The model as sent; empty where the request names none.
        var model = ""
        /// What the translation could not carry over.
        var losses: [TranslationLoss] = []
    }

    enum Outcome {
        case edited(Edited)
        case dropped(DropReason)
    }

    private let dialect: Dialect
    private let models: [String: String]
    private let maxTokens: Int
    private let deployment: String?
    private let tools: ToolSafety
    /// Names that change what a request asks for, or does: each may stand once.
    private static let telling = [
        "model", "stream", "messages", "input", "prompt", "tools", "functions", "type",
        "mcp_servers", "container", "conversation", "background", "store", "web_search_options",
    ]

    init(_ provider: ProviderSettings, _ settings: ShadowSettings) {
        dialect = provider.dialect
        models = settings.modelMapping
        maxTokens = provider.maxTokens
        deployment = provider.azure?.deployment
        tools = settings.tools
    }

    /// Reads the body of a request that `primary` got, and says what is sent. What can be read in
    /// two ways is not sent.
    func edit(_ inference: Inference, of primary: CopyPrimary, body: [UInt8]) -> Outcome {
        guard let document = try? JSONDocument(body, valuesMax: ShadowLimits.bodyValuesMax),
            document.root.kind == .object,
            // Behind so many, others may stand twice as well.
            document.repeatedNames.count < Providers.Limits.repeatedNamesMax,
            !document.repeatedNames.contains(where: Self.telling.contains)
        else { return .dropped(.untranslatable) }
        guard admits(inference, document.root) else { return .dropped(.sideEffects) }
        let model = document.root["model"]?.string
        // Elsewhere the deployment stands in the path.
        let deployment = inference == .responses ? self.deployment : nil
        let mapped = deployment ?? model.flatMap { models[$0] }
        // Under another provider's name it would be refused, or be quite another model.
        let keepsName = (primary.dialect ?? inference.dialect) == dialect
        guard mapped != nil || model == nil || keepsName else { return .dropped(.unmappedModel) }
        if inference.dialect == dialect {
            let body = RequestEdit.edited(
                document, model: mapped,
                asksForUsage: inference == .chat || inference == .completions,
                store: store(inference))
            return .edited(Edited(body: body, model: mapped ?? model ?? ""))
        }
        guard inference.counterpart != nil, let model else { return .dropped(.untranslatable) }
        return translate(inference, document, model: mapped ?? model)
    }

    /// What a copy says of being kept: a provider that may do nothing else may not do that.
    private func store(_ inference: Inference) -> RequestEdit.Store {
        if tools == .all { return .asWritten }
        return inference == .responses ? .never : .notIfAsked
    }

    /// Whether a copy that asks no model may be sent: it reads, or everything may.
    func admits(isReading: Bool) -> Bool { isReading || tools == .all }

    /// Whether a copy can do no more than it may. A translation carries over clients' tools alone.
    private func admits(_ inference: Inference, _ root: JSONValue) -> Bool {
        switch tools {
        case .all: true
        case .client:
            inference.dialect != dialect || RequestEffects(root, of: inference) != .provider
        case .none: RequestEffects(root, of: inference) == .none
        }
    }

    private func translate(
        _ inference: Inference, _ document: JSONDocument, model: String
    ) -> Outcome {
        var settings = TranslationSettings(model: model)
        settings.maxTokens = maxTokens
        do throws(RequestFault) {
            let translation =
                inference == .chat
                ? try ChatToMessages.translate(document, settings)
                : try MessagesToChat.translate(document, settings)
            return .edited(
                Edited(
                    body: translation.body, isTranslated: true, model: model,
                    losses: translation.losses))
        } catch {
            return .dropped(.untranslatable)
        }
    }
}
