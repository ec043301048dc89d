import Admin
import CLinux
import Configuration
import CoreLoop
import Proxy

/// The running gateway that a command is about: where its admin listener is, and the token for it.
struct AdminAddress {
    let address: SocketAddress
    let token: String?

    /// The options that say which.
    static let options: Set<String> = ["--policy-config", "--admin"]

    static let help = """
            --policy-config FILE   the gateway whose admin listener this file names
            --admin ADDR:PORT      this one; 127.0.0.1:41003 without either
            A token is taken from the variable that the file names, else from UMBRA_ADMIN_TOKEN.
        """

    /// Reads the options. Nil where the named file is not valid, which was said.
    static func read(_ arguments: Arguments) throws(Arguments.Fault) -> AdminAddress? {
        let token = getenv("UMBRA_ADMIN_TOKEN").map { String(cString: $0) }
        if let text = arguments.value("--admin") {
            guard arguments.value("--policy-config") == nil else {
                throw Arguments.Fault(text: "--admin and --policy-config exclude each other")
            }
            guard let address = SocketAddress(text) else {
                throw Arguments.Fault(text: "--admin \(text): not ADDR:PORT")
            }
            return AdminAddress(address: address, token: token)
        }
        var settings = AdminSettings()
        if let file = arguments.value("--policy-config") {
            let result = ConfigurationReader.readFile(file, keyFiles: false)
            guard let read = result.settings else {
                for finding in result.errors { Console.error(finding.text(file: file)) }
                return nil
            }
            settings = read.admin
        }
        guard let address = settings.listen else {
            throw Arguments.Fault(
                text: "the configuration switches the admin listener off: there is nobody to ask")
        }
        guard let name = settings.tokenVariable else {
            return AdminAddress(address: address, token: token)
        }
        return AdminAddress(
            address: address, token: getenv(name).map { String(cString: $0) })
    }
}
