from jobs.train_opponent import SSSDOptions, TrainOpponentJob, train_opponent
from tests.integration.test_opponents import _SHORT
from tests.integration.test_paper_preset_training import gpu_node
from fxcast.adapters.storage.database import migrate
def test_it(gpu_node, store, tmp_path):
    url=f"sqlite:///{tmp_path}/r.db"; migrate(url)
    m = train_opponent(TrainOpponentJob(kind="sssd", name="g", store=str(store), models=tmp_path/"models", database_url=url, training=_SHORT, sssd=SSSDOptions(channels=8, blocks=1, states=2, sampler_steps=2), workers=2, use_gpu=True))
    assert m.metrics["step"] == 6
