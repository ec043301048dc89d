import CoreLoop
import Providers

/// Requests whose target speaks another language than the client.
extension ProxyWorker {
    /// Why a request was not translated.
    enum TranslationFault: Error {
        /// It is no JSON, or none that is read.
        case unreadable(JSONFault)
        /// It is none of its API's.
        case refused(RequestFault)
        case noMemory
    }

    /// Translates a held request. Its new body is in blocks whose references are the caller's.
    func translate(_ slot: Int, _ held: HeldRequest) -> Result<[Slice], TranslationFault> {
        let settings = forwarding.translation(ofRoute: Int(clients[slot].pointee.route))
        let made: RequestTranslation
        do {
            let document = try held.document(blocks)
            switch held.dialect {
            case .openAI: made = try ChatToMessages.translate(document, settings)
            case .anthropic: made = try MessagesToChat.translate(document, settings)
            }
        } catch let fault as JSONFault {
            return .failure(.unreadable(fault))
        } catch let fault as RequestFault {
            return .failure(.refused(fault))
        } catch {
            return .failure(.noMemory)
        }
        guard let body = made.body.withUnsafeBytes({ makeBlocks(of: $0) }) else {
            return .failure(.noMemory)
        }
        held.answer = TranslatedAnswer(made.shape, for: held.dialect, losses: made.losses)
        return .success(body)
    }

    /// Tells the client, in its language, what is wrong with its request.
    func refuse(_ slot: Int, _ held: HeldRequest, _ fault: TranslationFault) {
        let message: String
        var param: String?
        var code = "invalid_request"
        switch fault {
        case .noMemory:
            gatewayAnswer(slot, .noMemory)
            return
        case .unreadable(let fault):
            message = "The request's body is no JSON that is taken: \(fault.text)."
            code = "invalid_json"
        case .refused(let fault):
            message = fault.message
            param = fault.param
        }
        switch held.dialect {
        case .openAI:
            answer(
                slot, status: 400,
                ErrorBody.chat(
                    message: message, type: "invalid_request_error", code: code, param: param))
        case .anthropic:
            answer(
                slot, status: 400,
                ErrorBody.messages(message: message, type: "invalid_request_error"))
        }
    }
}
