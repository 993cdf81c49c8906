// fake_replicators DIRECTORY PAIR...: serves the control sockets DIRECTORY/a/PAIR.sock and
// .../b/PAIR.sock of pairs that are not there, and plays scenes read from its standard input, one a
// line:
//
//     kill PAIR SITE | cut PAIR | heal PAIR | tiebreaker-down PAIR | tiebreaker-up PAIR | freeze
//     PAIR SITE diverge PAIR | sync PAIR SITE | switch PAIR
//
// It answers "ok" when the scene is played, and ends with its input.
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/steady_timer.hpp>
#include <filesystem>
#include <iostream>
#include <sstream>

#include "tests/unit/web/fake_pair.h"

namespace antipode::web::test {
namespace {

namespace asio = boost::asio;

int64_t now_unix_ms() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

struct Scene {
    std::unique_ptr<FakePair> pair;
    std::array<std::unique_ptr<control::ControlServer>, 2> servers;
};

class Stage {
  public:
    Stage(asio::io_context& context, std::string directory)
        : context_(context), directory_(std::move(directory)), timer_(context) {}

    Result<> add(const std::string& name) {
        Scene& scene = scenes_[name];
        scene.pair =
            std::make_unique<FakePair>(name, "prague", "lisbon", scenes_.size() + 41, now_unix_ms);
        scene.pair->run_for(900);
        for (size_t site = 0; site < 2; ++site) FT_TRY_VOID(serve(scene, site));
        return {};
    }

    void tick() {
        timer_.expires_after(std::chrono::seconds(1));
        timer_.async_wait([this](boost::system::error_code error) {
            if (error) return;
            for (auto& [name, scene] : scenes_) scene.pair->tick();
            tick();
        });
    }

    std::string play(const std::string& line) {
        std::istringstream words(line);
        std::string verb;
        std::string name;
        size_t site = 0;
        words >> verb >> name >> site;
        const auto found = scenes_.find(name);
        if (found == scenes_.end() || site > 1) return "no such pair or site";
        Scene& scene = found->second;
        if (verb == "kill" || verb == "freeze") {
            const size_t gone = verb == "kill" ? site : 1 - site;
            if (verb == "kill") scene.pair->kill(site);
            if (verb == "freeze") scene.pair->lose_everything(site);
            scene.servers[gone].reset();
        } else if (verb == "cut") {
            scene.pair->cut_link();
        } else if (verb == "heal") {
            scene.pair->heal_link();
        } else if (verb == "tiebreaker-down") {
            scene.pair->lose_tiebreaker();
        } else if (verb == "tiebreaker-up") {
            scene.pair->find_tiebreaker();
        } else if (verb == "checkpoints") {
            scene.pair->use_checkpoints();
        } else if (verb == "diverge") {
            scene.pair->diverge();
        } else if (verb == "switch") {
            scene.pair->switch_roles();
        } else if (verb == "sync") {
            scene.pair->begin_sync(site);
            if (!scene.servers[site]) {
                if (auto served = serve(scene, site); !served) return served.error().to_string();
            }
        } else {
            return "no such scene";
        }
        return "ok";
    }

    void stop() {
        timer_.cancel();
        for (auto& [name, scene] : scenes_) {
            for (auto& server : scene.servers) server.reset();
        }
    }

  private:
    Result<> serve(Scene& scene, size_t site) {
        const std::string folder = directory_ + (site == 0 ? "/a" : "/b");
        std::filesystem::create_directories(folder);
        control::ControlServerSettings settings;
        settings.path = folder + "/" + scene.pair->name() + ".sock";
        FT_TRY(scene.servers[site],
               control::ControlServer::start(context_, settings, scene.pair->handler(site)));
        return {};
    }

    asio::io_context& context_;
    const std::string directory_;
    asio::steady_timer timer_;
    std::map<std::string, Scene> scenes_;
};

class Input {
  public:
    Input(asio::io_context& context, Stage& stage) : stage_(stage), input_(context, ::dup(0)) {}

    void read() {
        asio::async_read_until(input_, asio::dynamic_buffer(text_, 4096), '\n',
                               [this](boost::system::error_code error, size_t count) {
                                   if (error) {
                                       stage_.stop();
                                       return;
                                   }
                                   std::cout << stage_.play(text_.substr(0, count - 1))
                                             << std::endl;
                                   text_.erase(0, count);
                                   read();
                               });
    }

  private:
    Stage& stage_;
    asio::posix::stream_descriptor input_;
    std::string text_;
};

int run(int argc, char** argv) {
    if (argc < 3) {
        std::cerr << "usage: fake_replicators DIRECTORY PAIR...\n";
        return 2;
    }
    asio::io_context context(1);
    Stage stage(context, argv[1]);
    for (int i = 2; i < argc; ++i) {
        if (auto added = stage.add(argv[i]); !added) {
            std::cerr << added.error().to_string() << "\n";
            return 1;
        }
    }
    Input input(context, stage);
    input.read();
    stage.tick();
    std::cout << "ready" << std::endl;
    context.run();
    return 0;
}

}  // namespace
}  // namespace antipode::web::test

int main(int argc, char** argv) {
    return antipode::web::test::run(argc, argv);
}
